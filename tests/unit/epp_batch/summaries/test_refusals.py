"""What refuses, breaks off, goes away or is not there is outlived, or told with its remedy."""

from __future__ import annotations

import pytest

from epp.clock import ManualClock
from epp_batch.summaries.retry import DROPPED_REASON_HEADER, NO_ENDPOINTS, SATURATED, SHUTTING_DOWN
from tests.unit.epp_batch.summaries.conftest import Endpoint, kinds, refuses, says, sidecar, summarise


@pytest.mark.parametrize(
    ("status", "reason", "elsewhere"),
    [(429, SATURATED, False), (503, NO_ENDPOINTS, False), (503, SHUTTING_DOWN, True), (503, "", False)],
)
async def test_a_refusal_that_passes_is_outlived(stage, endpoint, status, reason, elsewhere):
    stage.notes_pauses()
    endpoint.script = [refuses(status, **({DROPPED_REASON_HEADER: reason} if reason else {})), says("Better now.")]
    assert (await summarise(stage, endpoint.url)).done == 1
    summary = sidecar(stage)
    assert summary.attempts == 2
    assert summary.refusals == {reason or f"HTTP {status}": 1}
    assert kinds(stage) == ["summarizing", "refused", "summarizing", "first-token", "summarized"]
    assert (reason or "HTTP 503") in stage.events[1].detail
    assert (stage.pauses == [0.0]) == elsewhere


async def test_retry_after_is_honoured(stage, endpoint):
    stage.notes_pauses()
    endpoint.script = [refuses(429, retry_after="40"), says("Better now.")]
    assert (await summarise(stage, endpoint.url)).done == 1
    assert len(stage.pauses) == 1
    assert 40 <= stage.pauses[0] <= 50


async def test_a_gateway_that_shuts_down_is_left_for_the_next(stage, endpoint):
    async with Endpoint() as second:
        endpoint.script = [refuses(503, **{DROPPED_REASON_HEADER: SHUTTING_DOWN})]
        tasks = [stage.transcript(f"call{n}") for n in range(4)]
        assert (await summarise(stage, [endpoint.url, second.url], *tasks)).done == 4
        assert len(second.requests) == 4
        assert {sidecar(stage, task.stem).url for task, _ in tasks} == {second.url}


async def test_one_gateway_that_shuts_down_is_asked_again_over_another_connection(stage, endpoint):
    peers = []

    async def remembers(request, body):
        peers.append(request.transport.get_extra_info("peername"))
        answer = refuses(503, **{DROPPED_REASON_HEADER: SHUTTING_DOWN}) if len(peers) == 1 else says("Here I am.")
        return await answer(request, body)

    endpoint.script = [remembers]
    assert (await summarise(stage, endpoint.url)).done == 1
    assert len(set(peers)) == 2


async def test_half_an_answer_is_none(stage, endpoint):
    stage.notes_pauses()
    endpoint.script = [says("Revenue ro", finish=None), says("Revenue rose.")]
    assert (await summarise(stage, endpoint.url)).done == 1
    assert stage.folder.path("call", "summary.md").read_text() == "# call\n\nRevenue rose.\n"
    assert sidecar(stage).refusals == {"no answer": 1}


async def test_patience_ends_with_a_line_that_names_file_stage_and_remedy(stage, endpoint):
    endpoint.script = [refuses(503, "busy", **{DROPPED_REASON_HEADER: NO_ENDPOINTS})]
    outcome = await summarise(stage, endpoint.url, patience_seconds=1.0)
    (failure,) = outcome.failed
    assert stage.failures == [failure]
    assert stage.folder.load_failure("call") == failure
    assert (failure.source, failure.stage, failure.kind, failure.permanent) == ("call.mp3", "summary", "summary", False)
    assert failure.message.startswith("no answer in ")
    assert failure.message.endswith(" s; the last was: HTTP 503, rejected-no-endpoints, busy")
    assert "epp-batch summarize" in failure.remedy
    assert kinds(stage) == ["summarizing", "unsummarized"]


async def test_an_outage_is_waited_out_once_not_by_one_after_the_other(stage, endpoint):
    stage.clock = ManualClock()
    stage.notes_pauses(stage.clock.advance)
    endpoint.script = [refuses(503)]
    tasks = [stage.transcript(f"call{n}") for n in range(20)]
    begun = stage.clock.now()
    outcome = await summarise(stage, endpoint.url, *tasks, concurrency=1, patience_seconds=300.0)
    assert len(outcome.failed) == 20
    assert 240 < stage.clock.now() - begun <= 300


async def test_a_later_success_clears_the_failure(stage, endpoint):
    endpoint.script = [refuses(404, "no such model"), says("Found.")]
    task = stage.transcript()
    assert (await summarise(stage, endpoint.url, task)).failed
    assert (await summarise(stage, endpoint.url, task)).done == 1
    assert stage.folder.load_failure("call") is None


async def test_one_that_fails_for_good_does_not_stop_the_others(stage, endpoint):
    endpoint.script = [refuses(404, "The model `x` does not exist."), says("Fine.")]
    tasks = [stage.transcript(f"call{n}") for n in range(3)]
    outcome = await summarise(stage, endpoint.url, *tasks, concurrency=1)
    assert outcome.done == 2
    (failure,) = outcome.failed
    assert failure.remedy == "name a model that the gateway serves: llm"


async def test_nobody_at_the_address(stage):
    outcome = await summarise(stage, "http://127.0.0.1:9/v1", model="llm", patience_seconds=0.5)
    (failure,) = outcome.failed
    assert "127.0.0.1:9" in failure.message
