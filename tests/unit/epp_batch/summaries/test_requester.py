"""Failed attempts and prompts that do not fit: retries, patience, outages, permanent errors, shrinking."""

from __future__ import annotations

import pytest

from epp.clock import ManualClock
from epp.headers import REQUEST_DROPPED_REASON
from epp_batch.summaries.prompt import estimate_tokens
from epp_batch.summaries.retry import NO_ENDPOINTS, SATURATED, SHUTTING_DOWN
from tests.unit.epp_batch.summaries.conftest import event_kinds, load_sidecar, reject, stream, summarize


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


async def test_permanent_failure_does_not_stop_the_others(harness, endpoint):
    endpoint.script = [reject(404, "The model `x` does not exist."), stream("Fine.")]
    tasks = [harness.write_transcript(f"call{n}") for n in range(3)]
    outcome = await summarize(harness, endpoint.url, *tasks, concurrency=1)
    assert outcome.done == 2
    (failure,) = outcome.failed
    assert failure.remedy == "name a model that the gateway serves: llm"


async def test_long_transcript_is_trimmed_to_the_context(harness, endpoint):
    text = "and revenue rose again " * 2000
    assert (await summarize(harness, endpoint.url, harness.write_transcript("call", text))).done == 1
    trim = load_sidecar(harness).trim
    assert (trim.counted, trim.from_characters) == ("server", len(text.strip()))
    assert 4096 - 512 - 100 < trim.to_tokens <= 4096 - 512
    assert "did not fit" in harness.folder.path("call", "summary.md").read_text()


@pytest.mark.parametrize("states_the_maximum", [True, False])
async def test_prompt_shrinks_when_the_server_rejects_its_length(harness, endpoint, states_the_maximum):
    endpoint.tokenizes = False
    endpoint.models = [{"id": "llm", "object": "model"}]

    async def strict(request, body):
        tokens = len(body["messages"][0]["content"]) // 2
        if tokens + body["max_tokens"] <= 2048:
            return await stream("Short enough.")(request, body)
        limit = (
            "This model's maximum context length is 2048 tokens."
            if states_the_maximum
            else "exceeds the available context size"
        )
        return await reject(
            400, f"{limit} However, you requested {tokens}." if states_the_maximum else f"{limit} (2048 tokens)"
        )(request, body)

    endpoint.script = [strict]
    first, second = harness.write_transcript("a", "word " * 2000), harness.write_transcript("b", "text " * 2000)
    outcome = await summarize(harness, endpoint.url, first, second, concurrency=1)
    assert outcome.failed == []
    assert load_sidecar(harness, "a").trim.counted == "estimate"
    assert load_sidecar(harness, "a").attempts > 1
    lengths = [
        estimate_tokens(body["messages"][0]["content"])
        for body in endpoint.requests[: load_sidecar(harness, "a").attempts]
    ]
    assert lengths == sorted(lengths, reverse=True)


async def test_max_tokens_without_room_for_a_prompt(harness, endpoint):
    (failure,) = (await summarize(harness, endpoint.url, max_tokens=4096)).failed
    assert failure.message == "answers of 4096 tokens leave no room in a context of 4096"


async def test_named_model_needs_no_model_list(harness, endpoint):
    endpoint.models_status = 404
    assert (await summarize(harness, endpoint.url, model="mine")).done == 1
    assert endpoint.requests[0]["model"] == "mine"


async def test_neither_model_name_nor_model_list(harness, endpoint):
    endpoint.models_status = 404
    (failure,) = (await summarize(harness, endpoint.url)).failed
    assert "lists no model" in failure.message
