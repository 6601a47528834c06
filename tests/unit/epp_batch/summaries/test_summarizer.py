"""Summaries of finished tasks: files, events, what is skipped, concurrency, failures."""

from __future__ import annotations

import asyncio

import pytest

from epp_batch.errors import InputError
from epp_batch.timeline import read_events
from tests.unit.epp_batch.summaries.conftest import load_sidecar, reject, stream, summarize


async def test_summary_and_metadata_are_written(harness, endpoint):
    outcome = await summarize(harness, endpoint.url, max_tokens=77, temperature=0.0, extra={"seed": 7})
    assert (outcome.done, outcome.skipped, outcome.failed) == (1, 0, [])
    assert harness.folder.path("call", "summary.md").read_text() == "# call\n\nRevenue rose.\n"
    summary = load_sidecar(harness)
    assert (summary.model, summary.served_model, summary.finish_reason) == ("llm", "llm-served", "stop")
    assert (summary.prompt_tokens, summary.cached_tokens, summary.completion_tokens) == (20, 16, 2)
    assert (summary.attempts, summary.refusals, summary.trim, summary.request_id) == (1, {}, None, "r-1")
    assert 0 < summary.ttft <= summary.total
    (body,) = endpoint.requests
    assert body["messages"][0]["content"].endswith("transcript: [Good morning. Revenue rose.]")
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("llm", 77, 0.0, 7)
    assert endpoint.headers[0]["Authorization"] == "Bearer secret"


async def test_events_of_a_summary(harness, endpoint):
    await summarize(harness, endpoint.url)
    events = read_events(harness.folder.events_file)
    assert events == harness.events
    assert [event.kind for event in events] == ["summarizing", "first-token", "summarized"]
    assert {(event.unit, event.stem) for event in events} == {("run-call", "call")}
    assert {event.attempt for event in events} == {0}, "attempts count admissions"
    times = [event.at for event in events]
    assert times == sorted(times)


async def test_current_summary_is_skipped(harness, endpoint):
    task = harness.write_transcript()
    await summarize(harness, endpoint.url, task)
    again = await summarize(harness, endpoint.url, task)
    assert (again.done, again.skipped) == (0, 1)
    other = await summarize(harness, endpoint.url, task, max_tokens=9)
    assert (other.done, other.skipped) == (1, 0)
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("model", ["", "llm"])
async def test_current_summary_needs_no_gateway(harness, endpoint, model):
    task = harness.write_transcript()
    await summarize(harness, endpoint.url, task, model=model)
    again = await summarize(harness, "http://127.0.0.1:9", task, model=model, patience_seconds=0.0)
    assert (again.skipped, again.failed) == (1, [])


async def test_other_model_requests_a_new_summary(harness, endpoint):
    task = harness.write_transcript()
    await summarize(harness, endpoint.url, task)
    assert (await summarize(harness, endpoint.url, task, model="other")).done == 1


async def test_summary_without_text_is_requested_again(harness, endpoint):
    task = harness.write_transcript()
    await summarize(harness, endpoint.url, task)
    harness.folder.path("call", "summary.md").unlink()
    assert (await summarize(harness, endpoint.url, task)).done == 1


async def test_duplicate_submission_is_ignored(harness, endpoint):
    task = harness.write_transcript()
    assert (await summarize(harness, endpoint.url, task, task)).done == 1
    assert len(endpoint.requests) == 1


async def test_concurrency_limit(harness, endpoint):
    tasks = [harness.write_transcript(f"call{n}") for n in range(9)]
    reached, release = asyncio.Event(), asyncio.Event()

    async def held(request, body):
        if endpoint.open == 3:
            reached.set()
        await release.wait()
        return await stream("Fine.")(request, body)

    endpoint.script = [held]
    summarizer = harness.create_summarizer(endpoint.url, concurrency=3)
    for task, result in tasks:
        summarizer.submit(task, result)
    await asyncio.wait_for(reached.wait(), 10)
    release.set()
    outcome = await summarizer.drain()
    assert outcome.done == 9
    assert endpoint.most_open == 3


async def test_close_cancels_without_a_failure(harness, endpoint):
    reached = asyncio.Event()

    async def hangs(request, body):
        reached.set()
        await asyncio.Event().wait()

    endpoint.script = [hangs]
    summarizer = harness.create_summarizer(endpoint.url)
    summarizer.submit(*harness.write_transcript())
    await asyncio.wait_for(reached.wait(), 10)
    assert summarizer.pending == 1
    await summarizer.close()
    assert summarizer.pending == 0
    assert harness.folder.load_failure("call") is None
    assert not harness.folder.path("call", "summary.json").exists()


async def test_check_gateway(harness, endpoint):
    assert await harness.create_summarizer(endpoint.url, model="llm").check_gateway() == ""
    assert await harness.create_summarizer(endpoint.url).check_gateway() == ""
    assert (
        "'other' is not among those served: llm"
        in await harness.create_summarizer(endpoint.url, model="other").check_gateway()
    )
    assert "does not answer yet" in await harness.create_summarizer("http://127.0.0.1:9").check_gateway()
    endpoint.models_status = 401
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        await harness.create_summarizer(endpoint.url).check_gateway()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "Summarize."}, "has no {transcript}"),
        ({"max_tokens": 0}, "--max-tokens"),
        ({"max_prompt_tokens": 0}, "--max-prompt-tokens"),
        ({"concurrency": 0}, "invalid concurrency 0"),
        ({"url": "localhost:8081"}, "invalid gateway address 'localhost:8081'"),
        ({"url": ["http://a:1", "http://"]}, "invalid gateway address"),
    ],
)
async def test_invalid_settings_are_rejected(harness, settings, message):
    with pytest.raises(InputError, match=message):
        harness.create_summarizer(**{"url": "http://127.0.0.1:9"} | settings)


async def test_success_removes_the_failure(harness, endpoint):
    endpoint.script = [reject(404, "no such model"), stream("Found.")]
    task = harness.write_transcript()
    assert (await summarize(harness, endpoint.url, task)).failed
    assert (await summarize(harness, endpoint.url, task)).done == 1
    assert harness.folder.load_failure("call") is None
