"""Transcripts that are read, and summaries that are written."""

from __future__ import annotations

import os

from tests.unit.epp_batch.summaries.conftest import load_sidecar, stream, summarize


async def test_every_stem_gets_the_summary(harness, endpoint):
    await summarize(harness, endpoint.url, harness.write_transcript("call", "Hello.", "again/call"))
    assert load_sidecar(harness, "again/call") == load_sidecar(harness)
    assert harness.folder.path("again/call", "summary.md").exists()


async def test_answer_cut_at_max_tokens_has_a_note(harness, endpoint):
    endpoint.script = [stream("And then", finish="length", usage=False)]
    await summarize(harness, endpoint.url, max_tokens=2)
    assert harness.folder.path("call", "summary.md").read_text().endswith("*Cut at 2 tokens.*\n")
    assert load_sidecar(harness).completion_tokens is None


async def test_json_transcript_is_used_and_a_missing_one_fails(harness, endpoint):
    task, result = harness.write_transcript()
    harness.folder.path("call", "txt").unlink()
    (failure,) = (await summarize(harness, endpoint.url, (task, result))).failed
    assert "call.txt is missing" in failure.message
    harness.folder.path("call", "json").write_text('{"text": "Costs fell.", "language": "en"}')
    assert (await summarize(harness, endpoint.url, (task, result))).done == 1
    assert "[Costs fell.]" in endpoint.requests[0]["messages"][0]["content"]


async def test_empty_transcript_is_not_sent(harness, endpoint):
    (failure,) = (await summarize(harness, endpoint.url, harness.write_transcript("call", " \n"))).failed
    assert "has no words" in failure.message
    assert endpoint.requests == []


async def test_full_disk_is_a_failure(harness, endpoint):
    task = harness.write_transcript()
    temporary = harness.folder.path("call", "summary.md").with_name(f".call.summary.md.{os.getpid()}.tmp")
    temporary.symlink_to("/dev/full")
    (failure,) = (await summarize(harness, endpoint.url, task)).failed
    assert (failure.kind, failure.message) == ("disk_full", "No space left on device")
    assert not harness.folder.path("call", "summary.json").exists()
