"""Reports of an output folder: which of its files belong to the run."""

from __future__ import annotations

import pytest

from epp_batch.errors import FolderError
from epp_batch.report import build_folder_report
from tests.unit.epp_batch.report.builders import folder_with_failures, save_failure


@pytest.fixture
def folder(tmp_path):
    return folder_with_failures(tmp_path)


def test_results_failures_and_references_are_read(folder):
    report, messages = build_folder_report(folder.root)
    assert messages == []
    assert report.wer == pytest.approx(1 / 3)
    assert report.counts == {"done": 1, "failed": 2, "cancelled": 0, "running": 0, "waiting": 0}
    assert {str(failure) for failure in report.troubles} == {
        "bad.mp3: decode: it breaks off; r", "unread.mp3: decode: it breaks off; r"
    }  # fmt: skip


def test_failures_of_other_options_and_earlier_runs_are_ignored(folder):
    save_failure(folder, "bad", "0123456789ab")
    save_failure(folder, "older", "", at=999.0)
    report, _ = build_folder_report(folder.root)
    assert [failure.source for failure in report.troubles] == ["unread.mp3", "bad.mp3"]
    assert report.troubles[1].message == "failed without a recorded reason"


def test_a_torn_journal_and_a_torn_failure_are_tolerated(folder):
    with folder.events_file.open("ab") as file:
        file.write(b'{"at":12')
    folder.path("bad", "failed.json").write_bytes(b"{")
    report, _ = build_folder_report(folder.root)
    assert report.counts["done"] == 1


def test_references_can_be_omitted(folder):
    assert build_folder_report(folder.root, references=False)[0].wer is None


def test_a_folder_without_a_run_is_rejected(tmp_path):
    with pytest.raises(FolderError, match="no run here; submit or transcribe"):
        build_folder_report(tmp_path)
