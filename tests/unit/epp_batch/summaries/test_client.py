"""Answers of the OpenAI API that are unusual, and reconnects to the next gateway."""

from __future__ import annotations

import pytest
from aiohttp import web

from epp.headers import REQUEST_DROPPED_REASON
from epp_batch.errors import InputError
from epp_batch.summaries.retry import SHUTTING_DOWN
from tests.unit.epp_batch.summaries.conftest import (
    ScriptedEndpoint,
    event_kinds,
    load_sidecar,
    reject,
    stream,
    summarize,
)


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


async def test_refused_connection_is_a_failure(harness):
    outcome = await summarize(harness, "http://127.0.0.1:9/v1", model="llm", patience_seconds=0.5)
    (failure,) = outcome.failed
    assert "127.0.0.1:9" in failure.message


async def test_adapter_has_the_context_of_its_parent(harness, endpoint):
    endpoint.models.append({"id": "tuned", "object": "model", "parent": "llm", "max_model_len": None})
    assert (
        await summarize(harness, endpoint.url, harness.write_transcript("call", "word " * 8000), model="tuned")
    ).done == 1
    assert load_sidecar(harness).trim.to_tokens <= 4096 - 512


async def test_reasoning_is_stripped(harness, endpoint):
    endpoint.script = [stream("<think>hm, revenue</think>\n\nIt rose.")]
    await summarize(harness, endpoint.url)
    assert harness.folder.path("call", "summary.md").read_text() == "# call\n\nIt rose.\n"


async def test_response_that_is_not_an_event_stream(harness, endpoint):
    async def page(request, body):
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    endpoint.script = [page]
    (failure,) = (await summarize(harness, endpoint.url)).failed
    assert failure.message == f"{endpoint.url} does not answer as an OpenAI API does"
    assert "the gateway's address" in failure.remedy


async def test_model_list_that_is_not_json(harness, endpoint):
    endpoint.models_page = "<html>welcome</html>"
    with pytest.raises(InputError, match="does not answer as an OpenAI API does"):
        await harness.create_summarizer(endpoint.url).check_gateway()
    assert (await summarize(harness, endpoint.url, model="llm")).done == 1


async def test_answer_with_reasoning_only(harness, endpoint):
    endpoint.script = [stream("hm, hm", finish="length", delta="reasoning_content")]
    (failure,) = (await summarize(harness, endpoint.url)).failed
    assert "empty (finish_reason length)" in failure.message
    assert "--max-tokens" in failure.remedy
    assert "first-token" in event_kinds(harness)
