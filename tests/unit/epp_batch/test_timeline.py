"""The journal: appending, reading, and recovery from an incomplete line."""

from __future__ import annotations

from epp_batch.timeline import Journal, TimelineEvent, read_events

CREATED = TimelineEvent(at=1.5, unit="a", kind="created")
RUNNING = TimelineEvent(at=2.5, unit="a", kind="running", place="node-1/gpu-3/4-7", attempt=1)


def test_missing_journal_has_no_events(tmp_path):
    assert read_events(tmp_path / "events.jsonl") == []


def test_events_round_trip(tmp_path):
    journal = Journal(tmp_path / "new" / "events.jsonl")
    journal.append(CREATED)
    journal.append(RUNNING)
    journal.close()
    assert read_events(tmp_path / "new" / "events.jsonl") == [CREATED, RUNNING]


def test_incomplete_last_line_is_skipped_and_terminated(tmp_path):
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    journal.append(CREATED)
    journal.append(RUNNING)
    journal.close()
    path.write_bytes(path.read_bytes()[:-9])
    assert read_events(path) == [CREATED]
    journal = Journal(path)
    journal.append(RUNNING)
    journal.close()
    assert read_events(path) == [CREATED, RUNNING]
