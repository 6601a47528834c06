"""A simulated server over HTTP, with aiohttp and with OpenAI's client library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from epp.clock import SystemClock
from epp.sim.engine import SimEngineConfig
from epp.sim.fleet import SimFleet
from epp.sim.hardware import FAST

LONG = {"prompt": "hello " * 50, "max_tokens": 1900}
HELLO = [{"role": "user", "content": "Say hello to all of us, please."}]


@pytest.fixture
async def ai(fleet: SimFleet) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://{fleet.targets[0]}/v1", api_key="-", max_retries=0) as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition holds; bounded by pytest's time limit."""
    while not condition():
        await asyncio.sleep(0.001)


async def post(client: aiohttp.ClientSession, path: str, **body: Any) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json()


async def test_openai_chat(ai: openai.AsyncOpenAI) -> None:
    answer = await ai.chat.completions.create(model="sim-8b", messages=HELLO, max_completion_tokens=6)  # type: ignore[call-overload]
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.role, len(choice.message.content)) == ("length", "assistant", 24)
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens) == (6, 22)
    assert answer.usage.total_tokens == 28


async def test_openai_chat_streams_one_token_in_each_chunk(ai: openai.AsyncOpenAI) -> None:
    stream = await ai.chat.completions.create(  # type: ignore[call-overload]
        model="sim-8b", messages=HELLO, max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content for chunk in chunks[:-1])
    whole = await ai.chat.completions.create(model="sim-8b", messages=HELLO, max_tokens=6)  # type: ignore[call-overload]
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "length"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 6)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_openai_completion_of_token_ids(ai: openai.AsyncOpenAI) -> None:
    answer = await ai.completions.create(model="sim-8b", prompt=list(range(40)), max_tokens=1)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.object, len(answer.choices[0].text)) == (40, "text_completion", 4)


async def test_openai_lists_models(ai: openai.AsyncOpenAI) -> None:
    models = [model async for model in ai.models.list()]
    assert [(model.id, getattr(model, "parent", None)) for model in models] == [("sim-8b", None), ("l1", "sim-8b")]


async def test_openai_maps_the_errors(ai: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="The model `gpt-9` does not exist"):
        await ai.chat.completions.create(model="gpt-9", messages=HELLO)  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match="maximum context length is 2048 tokens"):
        await ai.completions.create(model="sim-8b", prompt="a" * 9000)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": "a", "max_tokens": 0}, "max_tokens must be at least 1, got 0."),
        ({"prompt": "a", "max_tokens": 2048}, "context length"),
        ({"prompt": "", "max_tokens": 1}, "The prompt is empty."),
        ({"prompt": "a", "n": 2}, "n must be 1"),
        ({"prompt": ["a", "b"]}, "one text or one list"),
        ({"prompt": "a", "max_tokens": "two"}, "Expected `int | null`, got `str` - at `$.max_tokens`"),
        ({}, "missing required field `prompt`"),
    ],
)
async def test_invalid_completion_requests(client: aiohttp.ClientSession, body: dict[str, Any], message: str) -> None:
    status, answer = await post(client, "/v1/completions", **body)
    assert (status, answer["error"]["type"], answer["error"]["code"]) == (400, "BadRequestError", 400)
    assert message in answer["error"]["message"]


async def test_malformed_json(client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/chat/completions", data=b"{") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, 400)


async def test_unknown_path(client: aiohttp.ClientSession) -> None:
    async with client.get("/v2") as response:
        assert (response.status, (await response.json())["error"]["message"]) == (404, "Not Found")


async def test_request_id_is_echoed_and_part_of_the_response_id(client: aiohttp.ClientSession) -> None:
    body = {"prompt": "hello", "max_tokens": 1}
    for stream in (False, True):
        headers = {"x-request-id": "r-1"}
        async with client.post("/v1/completions", json={**body, "stream": stream}, headers=headers) as response:
            assert response.headers["x-request-id"] == "r-1"
            assert b'"id":"cmpl-r-1"' in await response.read()
    async with client.post("/v1/completions", json=body) as response:
        assert len(response.headers["x-request-id"]) == 32


async def test_server_sent_events(client: aiohttp.ClientSession) -> None:
    body = {"prompt": "hello", "max_tokens": 3, "stream": True}
    async with client.post("/v1/completions", json=body) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = (await response.read()).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    choices = [json.loads(event.removeprefix(b"data: "))["choices"][0] for event in events[:-2]]
    assert "".join(choice["text"] for choice in choices) != ""
    assert [choice["finish_reason"] for choice in choices][-1] == "length"


async def test_a_response_without_max_tokens_ends_by_itself(client: aiohttp.ClientSession) -> None:
    _, free = await post(client, "/v1/completions", prompt="hello")
    _, bound = await post(client, "/v1/completions", prompt="hello", max_tokens=40, ignore_eos=True)
    assert (free["choices"][0]["finish_reason"], bound["choices"][0]["finish_reason"]) == ("stop", "length")
    assert 64 <= free["usage"]["completion_tokens"] < 192
    assert free["choices"][0]["text"].startswith(bound["choices"][0]["text"])


async def test_the_second_turn_hits_the_blocks_of_the_first(client: aiohttp.ClientSession) -> None:
    messages: list[dict[str, str]] = [{"role": "system", "content": "policy " * 100}, *HELLO]
    _, first = await post(client, "/v1/chat/completions", messages=messages, max_tokens=32)
    messages += [first["choices"][0]["message"], {"role": "user", "content": "Go on."}]
    _, second = await post(client, "/v1/chat/completions", messages=messages, max_tokens=1)
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    # full blocks of everything but the last output token
    assert cached == (first["usage"]["total_tokens"] - 1) // 16 * 16


async def test_adapters_do_not_share_blocks(client: aiohttp.ClientSession) -> None:
    cached = []
    for model in ("sim-8b", "l1", "l1"):
        _, answer = await post(client, "/v1/completions", model=model, prompt="p" * 400, max_tokens=1)
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached == [0, 0, 96]


async def test_metrics_over_http(client: aiohttp.ClientSession) -> None:
    await post(client, "/v1/completions", prompt="hello", max_tokens=3)
    async with client.get("/metrics") as response:
        assert response.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
        families = {family.name: family for family in parse(await response.text())}
    assert families["vllm:generation_tokens"].samples[0].value == 3
    assert families["vllm:kv_cache_usage_perc"].samples[0].value == 0


async def test_closing_a_stream_aborts_the_request(client: aiohttp.ClientSession, fleet: SimFleet) -> None:
    engine = fleet.servers[0].engine
    response = await client.post("/v1/completions", json={**LONG, "stream": True})
    await response.content.readline()
    response.close()
    await until(lambda: engine.stats.finished_requests["abort"] == 1)
    assert (engine.running, engine.block_pool.used_count) == ([], 0)


async def test_closing_the_connection_aborts_the_request(client: aiohttp.ClientSession, fleet: SimFleet) -> None:
    engine = fleet.servers[0].engine
    async with asyncio.TaskGroup() as group:
        request = group.create_task(post(client, "/v1/completions", **LONG))
        await until(lambda: bool(engine.running))
        request.cancel()
    await until(lambda: engine.stats.finished_requests["abort"] == 1)
    assert (engine.running, engine.block_pool.used_count) == ([], 0)


async def test_a_full_queue_is_a_503() -> None:
    config = SimEngineConfig(hardware=FAST, max_num_seqs=1, max_num_queued_reqs=1)
    async with (
        SimFleet(config, SystemClock(), ports=[0]) as fleet,
        aiohttp.ClientSession(f"http://{fleet.targets[0]}") as client,
        asyncio.TaskGroup() as group,
    ):
        engine = fleet.servers[0].engine
        group.create_task(post(client, "/v1/completions", **LONG))
        await until(lambda: len(engine.running) == 1)
        group.create_task(post(client, "/v1/completions", prompt="second", max_tokens=1))
        await until(lambda: len(engine.waiting) == 1)
        status, answer = await post(client, "/v1/completions", prompt="third", max_tokens=1)
        assert (status, answer["error"]["type"], engine.stats.admission_rejections) == (503, "Service Unavailable", 1)


async def test_health_version_and_tokenize(client: aiohttp.ClientSession) -> None:
    for path in ("/health", "/ping"):
        async with client.get(path) as response:
            assert (response.status, await response.read()) == (200, b"")
    async with client.get("/version") as response:
        assert await response.json() == {"version": "0.32.0"}
    assert (await post(client, "/tokenize", prompt="abcdefgh"))[1]["count"] == 2
    assert (await post(client, "/tokenize", messages=HELLO))[1]["max_model_len"] == 2048


async def test_reset_prefix_cache(client: aiohttp.ClientSession) -> None:
    cached = []
    for _ in range(2):
        _, answer = await post(client, "/v1/completions", prompt="p" * 400, max_tokens=1)
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
        await client.post("/reset_prefix_cache")
    assert cached == [0, 0]
