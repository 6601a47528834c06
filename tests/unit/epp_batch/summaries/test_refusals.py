"""Failed attempts: retries, reconnects, patience, outages, permanent errors."""

from __future__ import annotations

import pytest

from epp.clock import ManualClock
from epp.headers import REQUEST_DROPPED_REASON
from epp_batch.summaries.retry import NO_ENDPOINTS, SATURATED, SHUTTING_DOWN
from tests.unit.epp_batch.summaries.conftest import (
    ScriptedEndpoint,
    event_kinds,
    load_sidecar,
    reject,
    stream,
    summarize,
)


@pytest.mark.parametrize(
    ("status", "reason", "reconnects"),
    [(429, SATURATED, False), (503, NO_ENDPOINTS, False), (503, SHUTTING_DOWN, True), (503, "", False)],
)
async def test_transient_failure_is_retried(harness, endpoint, status, reason, reconnects):
    harness.record_pauses()
    endpoint.script = [reject(status, **({REQUEST_DROPPED_REASON: reason} if reason else {})), stream("Better now.")]
    assert (await summarize(harness, endpoint.url)).done == 1
    summary = load_sidecar(harness)
    assert summary.attempts == 2
    assert summary.refusals == {reason or f"HTTP {status}": 1}
    assert event_kinds(harness) == ["summarizing", "refused", "summarizing", "first-token", "summarized"]
    assert (reason or "HTTP 503") in harness.events[1].detail
    assert (harness.pauses == [0.0]) == reconnects


async def test_retry_after_is_respected(harness, endpoint):
    harness.record_pauses()
    endpoint.script = [reject(429, retry_after="40"), stream("Better now.")]
    assert (await summarize(harness, endpoint.url)).done == 1
    assert len(harness.pauses) == 1
    assert 40 <= harness.pauses[0] <= 50


async def test_shutdown_moves_on_to_the_next_gateway(harness, endpoint):
    async with ScriptedEndpoint() as second:
        endpoint.script = [reject(503, **{REQUEST_DROPPED_REASON: SHUTTING_DOWN})]
        tasks = [harness.write_transcript(f"call{n}") for n in range(4)]
        assert (await summarize(harness, [endpoint.url, second.url], *tasks)).done == 4
        assert len(second.requests) == 4
        assert {load_sidecar(harness, task.stem).url for task, _ in tasks} == {second.url}


async def test_shutdown_of_the_only_gateway_reconnects(harness, endpoint):
    peers = []

    async def answer_by_peer(request, body):
        peers.append(request.transport.get_extra_info("peername"))
        answer = reject(503, **{REQUEST_DROPPED_REASON: SHUTTING_DOWN}) if len(peers) == 1 else stream("Here I am.")
        return await answer(request, body)

    endpoint.script = [answer_by_peer]
    assert (await summarize(harness, endpoint.url)).done == 1
    assert len(set(peers)) == 2


async def test_truncated_answer_is_retried(harness, endpoint):
    harness.record_pauses()
    endpoint.script = [stream("Revenue ro", finish=None), stream("Revenue rose.")]
    assert (await summarize(harness, endpoint.url)).done == 1
    assert harness.folder.path("call", "summary.md").read_text() == "# call\n\nRevenue rose.\n"
    assert load_sidecar(harness).refusals == {"no answer": 1}


async def test_exhausted_patience_is_a_failure(harness, endpoint):
    endpoint.script = [reject(503, "busy", **{REQUEST_DROPPED_REASON: NO_ENDPOINTS})]
    outcome = await summarize(harness, endpoint.url, patience_seconds=1.0)
    (failure,) = outcome.failed
    assert harness.failures == [failure]
    assert harness.folder.load_failure("call") == failure
    assert (failure.source, failure.stage, failure.kind, failure.permanent) == (
        "call.mp3",
        "summary",
        "summary",
        False,
    )
    assert failure.message.startswith("no answer in ")
    assert failure.message.endswith(" s; the last was: HTTP 503, rejected-no-endpoints, busy")
    assert "epp-batch summarize" in failure.remedy
    assert event_kinds(harness) == ["summarizing", "unsummarized"]


async def test_outage_is_shared_by_all_requests(harness, endpoint):
    harness.clock = ManualClock()
    harness.record_pauses(harness.clock.advance)
    endpoint.script = [reject(503)]
    tasks = [harness.write_transcript(f"call{n}") for n in range(20)]
    begun = harness.clock.now()
    outcome = await summarize(harness, endpoint.url, *tasks, concurrency=1, patience_seconds=300.0)
    assert len(outcome.failed) == 20
    assert 240 < harness.clock.now() - begun <= 300


async def test_success_removes_the_failure(harness, endpoint):
    endpoint.script = [reject(404, "no such model"), stream("Found.")]
    task = harness.write_transcript()
    assert (await summarize(harness, endpoint.url, task)).failed
    assert (await summarize(harness, endpoint.url, task)).done == 1
    assert harness.folder.load_failure("call") is None


async def test_permanent_failure_does_not_stop_the_others(harness, endpoint):
    endpoint.script = [reject(404, "The model `x` does not exist."), stream("Fine.")]
    tasks = [harness.write_transcript(f"call{n}") for n in range(3)]
    outcome = await summarize(harness, endpoint.url, *tasks, concurrency=1)
    assert outcome.done == 2
    (failure,) = outcome.failed
    assert failure.remedy == "name a model that the gateway serves: llm"


async def test_refused_connection_is_a_failure(harness):
    outcome = await summarize(harness, "http://127.0.0.1:9/v1", model="llm", patience_seconds=0.5)
    (failure,) = outcome.failed
    assert "127.0.0.1:9" in failure.message
