"""Request and response body modes other than FULL_DUPLEX_STREAMED."""

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
async def test_requests_are_routed_in_every_body_mode(lab, mode, shape, completion):
    backends = await lab.start_backends(2)
    gateway = await lab.start_gateway(*backends, body_mode=mode, shape=shape, completion=completion)
    for size in (10, 220_000, 12_000_000):
        body = json.dumps({"model": "m", "prompt": "p" * size}).encode()
        status, seen = await lab.post_completion(gateway, body)
        assert (status, seen["sha256"]) == (200, hashlib.sha256(body).hexdigest())
        assert seen["headers"]["x-gateway-destination-endpoint"] == seen["who"]
    async with lab.client.get(f"{gateway.url}/v1/models") as response:
        assert response.status == 200


@pytest.mark.parametrize("shape", ["override_host", "original_dst"])
@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED"])
async def test_observed_events_are_forwarded_one_by_one(lab, mode, shape):
    (backend,) = await lab.start_backends(1)
    gateway = await lab.start_gateway(backend, body_mode=mode, shape=shape, completion="extproc")
    backend.may_continue.clear()
    async with lab.stream_completion(gateway) as response:
        first = await response.content.readline()
        assert json.loads(first.removeprefix(b"data: "))["event"] == 0
        backend.may_continue.set()
        assert (await response.text()).endswith("data: [DONE]\n\n")

    async def idle() -> bool:
        return await lab.count_inflight(gateway) == 0

    await lab.wait_until(idle, "no request in flight")


@pytest.mark.parametrize("share", [0.0, 0.5])
async def test_responses_arrive_complete_and_are_accounted_whether_observed_or_not(lab, share):
    backends = await lab.start_backends(2)
    gateway = await lab.start_gateway(*backends, completion="access-log", observe_responses=share)
    bodies = [json.dumps({"model": "m", "prompt": "p" * size}).encode() for size in (10, 5_000, 150_000) * 60]
    responses = await asyncio.gather(*(lab.post_completion(gateway, body) for body in bodies))
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    assert [(status, seen["sha256"]) for status, seen in responses] == [(200, digest) for digest in digests]

    async def idle() -> bool:
        return await lab.count_inflight(gateway) == 0

    await lab.wait_until(idle, "no request in flight")
    async with lab.client.get(f"{gateway.admin_url}/stats?filter=logs_dropped") as response:
        assert await response.text() == "access_logs.grpc_access_log.logs_dropped: 0\n"
