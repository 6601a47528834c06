"""Gateways that buffer or stream bodies instead of the full duplex of ours."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest


@pytest.mark.parametrize("mode", ["BUFFERED", "STREAMED"])
@pytest.mark.parametrize(
    ("shape", "completion"),
    [("override_host", "extproc"), ("override_host", "access-log"), ("original_dst", "access-log")],
)
async def test_requests_pass_in_every_body_mode(lab, mode, shape, completion):
    backends = await lab.backends(2)
    gateway = await lab.gateway(*backends, body_mode=mode, shape=shape, completion=completion)
    for size in (10, 220_000, 12_000_000):
        body = json.dumps({"model": "m", "prompt": "p" * size}).encode()
        status, seen = await lab.complete(gateway, body)
        assert (status, seen["sha256"]) == (200, hashlib.sha256(body).hexdigest())
        assert seen["headers"]["x-gateway-destination-endpoint"] == seen["who"]
    async with lab.client.get(f"{gateway.url}/v1/models") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("shape", ["override_host", "original_dst"])
@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED"])
async def test_observed_events_pass_one_by_one(lab, mode, shape):
    (backend,) = await lab.backends(1)
    gateway = await lab.gateway(backend, body_mode=mode, shape=shape, completion="extproc")
    backend.let_go.clear()
    async with lab.stream(gateway) as answer:
        first = await answer.content.readline()
        assert json.loads(first.removeprefix(b"data: "))["event"] == 0
        backend.let_go.set()
        assert (await answer.text()).endswith("data: [DONE]\n\n")

    async def none() -> bool:
        return await lab.inflight(gateway) == 0

    await lab.eventually(none, "no request in flight")


@pytest.mark.parametrize("share", [0.0, 0.5])
async def test_answers_arrive_whole_and_are_counted_whether_observed_or_not(lab, share):
    backends = await lab.backends(2)
    gateway = await lab.gateway(*backends, completion="access-log", observe_responses=share)
    bodies = [json.dumps({"model": "m", "prompt": "p" * size}).encode() for size in (10, 5_000, 150_000) * 60]
    answers = await asyncio.gather(*(lab.complete(gateway, body) for body in bodies))
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    assert [(status, seen["sha256"]) for status, seen in answers] == [(200, digest) for digest in digests]

    async def none() -> bool:
        return await lab.inflight(gateway) == 0

    await lab.eventually(none, "no request in flight")
    async with lab.client.get(f"{gateway.admin_url}/stats?filter=logs_dropped") as answer:
        assert await answer.text() == "access_logs.grpc_access_log.logs_dropped: 0\n"
