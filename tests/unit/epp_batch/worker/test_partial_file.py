"""The partial file: resuming, damage, other work, locking."""

from __future__ import annotations

import pytest

from epp.clock import ManualClock
from epp_batch.errors import FolderError
from epp_batch.worker.partial_file import AttemptRecord, BatchRecord, PartialFile, PlanRecord
from epp_batch.worker.segments import Segment, Word
from epp_batch.worker.windows import SpeechWindow

WINDOWS = [SpeechWindow(((0.0, 10.0),)), SpeechWindow(((12.0, 20.0), (25.0, 31.0)))]


def segment(start, end):
    words = [Word(start, end, " word", 0.5)]
    return Segment(0, round(100 * start), start, end, " word", [1], 0.0, -0.1, 1.0, 0.0, words)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sub" / "call.partial.jsonl"


def open_partial(path, key="key"):
    return PartialFile(path, key, ManualClock())


def write_first_attempt(path):
    partial = open_partial(path)
    partial.append(PlanRecord("key", WINDOWS, 0.5))
    partial.append(AttemptRecord(1.0, timings={"load": 2.0}))
    partial.append(BatchRecord(10.0, 3.0, [segment(0.0, 4.0), segment(5.0, 9.0)], 1, "en"))
    partial.close()


def test_next_attempt_has_all_progress(path):
    write_first_attempt(path)
    partial = open_partial(path)
    partial.append(AttemptRecord(9.0, resumed_at=10.0, timings={"load": 1.0}))
    partial.append(BatchRecord(31.0, 4.0, [segment(12.0, 13.0)], 2))
    progress = partial.progress
    assert progress.plan.windows == WINDOWS
    assert [part.id for part in progress.segments] == [0, 1, 2]
    assert (progress.audio_seconds, progress.windows_done, progress.attempts, progress.language) == (31.0, 2, 2, "en")
    assert progress.timings == {"load": 3.0, "transcribe": 7.5}
    partial.close()


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_incomplete_last_line_is_cut_off(path, cut):
    write_first_attempt(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    partial = open_partial(path)
    assert (partial.progress.segments, partial.progress.attempts) == ([], 1)
    partial.append(BatchRecord(10.0, 3.0, [segment(0.0, 4.0), segment(5.0, 9.0)], 1, "en"))
    partial.close()
    assert path.read_bytes() == whole


def test_records_after_an_undecodable_line_are_dropped(path):
    write_first_attempt(path)
    path.write_bytes(path.read_bytes() + b'\x00\x00\n{"type":"batch","at":99,"spent":1,"segments":[]}\n')
    partial = open_partial(path)
    assert partial.progress.audio_seconds == 10.0
    partial.close()
    assert b"99" not in path.read_bytes()


def test_partial_file_of_other_work_is_discarded(path):
    write_first_attempt(path)
    partial = open_partial(path, "other")
    assert partial.progress.plan is None
    assert partial.progress.attempts == 0
    partial.close()
    assert path.read_bytes() == b""


def test_lock_excludes_other_workers(path):
    partial = open_partial(path)
    with pytest.raises(BlockingIOError):
        open_partial(path)
    partial.close()
    open_partial(path).close()


def test_remove_deletes_the_file(path):
    partial = open_partial(path)
    partial.remove()
    partial.close()
    assert not path.exists()


def test_unwritable_folder_raises_folder_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="give a writable output folder"):
        open_partial(tmp_path / "file" / "call.partial.jsonl")
