"""Assumptions about Envoy in the transcripts of tests/conformance/extproc, verified with real Envoy."""

from __future__ import annotations

import asyncio
import json

import pytest

from epp.address import split_host_port

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED"]
MODES_WITH_BODY = MODES[:2]


def body(size: int = 100) -> bytes:
    return json.dumps({"model": "old", "prompt": "p" * size}).encode()


@pytest.mark.parametrize("completion", ["extproc", "access-log"])
@pytest.mark.parametrize("mode", MODES_WITH_BODY)
async def test_a_body_changed_in_length_arrives_complete(lab, mode, completion):
    (backend,) = await lab.start_backends(1)
    gateway = await lab.start_gateway(backend, body_mode=mode, completion=completion)
    for name in ("n", "a-much-longer-name-of-a-model"):
        for size in (100, 300_000):
            status, seen = await lab.post_completion(gateway, body(size), x_llm_d_model_name_rewrite=name)
            assert (status, seen["bytes"]) == (200, len(body(size)) - len("old") + len(name))
            assert seen["headers"].get("content-length") in {None, str(seen["bytes"])}


@pytest.mark.parametrize("mode", MODES)
async def test_control_headers_are_removed(lab, mode):
    (backend,) = await lab.start_backends(1)
    gateway = await lab.start_gateway(backend, body_mode=mode, completion="extproc")
    sent = {
        "x_llm_d_inference_objective": "high",
        "x_gateway_inference_fairness_id": "tenant",
        "x_llm_d_slo_ttft_ms": "100",
        "x_kv_cache_source_host_port": "169.254.169.254:80",
        "x_prefiller_host_port": "169.254.169.254:80",
        "x_mine": "1",
    }
    status, seen = await lab.post_completion(gateway, body(), **sent)
    assert status == 200
    found = {name for name in seen["headers"] if name.replace("-", "_") in sent}
    assert found == {"x-mine"}


@pytest.mark.parametrize("mode", MODES_WITH_BODY)
async def test_a_rejection_keeps_its_reason(lab, mode):
    (backend,) = await lab.start_backends(1)
    gateway = await lab.start_gateway(backend, body_mode=mode)
    for number in range(3):
        status, text = await lab.post_completion(gateway, b'{"model": ' + b"x" * number)
        assert status == 400
        assert text.startswith("inference error: BadRequest - ")


async def send_raw(url: str, *chunks: bytes, until: bytes) -> bytes:
    """Sends the chunks on one connection and reads up to and including `until`."""
    reader, writer = await asyncio.open_connection(*split_host_port(url.removeprefix("http://")))
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.readuntil(until)
    finally:
        writer.close()


CHUNKED = b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\ntrailer: checksum\r\n\r\n"


@pytest.mark.parametrize("completion", ["extproc", "access-log"])
@pytest.mark.parametrize("mode", MODES)
async def test_requests_with_trailers_are_routed(lab, mode, completion):
    (backend,) = await lab.start_backends(1)
    gateway = await lab.start_gateway(backend, body_mode=mode, completion=completion)
    data = body()
    sent = [CHUNKED, b"%x\r\n%s\r\n" % (len(data), data), b"0\r\nchecksum: 1\r\n\r\n"]
    response = await send_raw(gateway.url, *sent, until=b"}")
    assert response.startswith(b"HTTP/1.1 200 "), response
    assert backend.served == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("completion", ["extproc", "access-log"])
async def test_a_client_that_disconnects_within_its_body_leaves_nothing_open(lab, mode, completion):
    (backend,) = await lab.start_backends(1)
    gateway = await lab.start_gateway(backend, body_mode=mode, completion=completion)
    host, port = split_host_port(gateway.url.removeprefix("http://"))

    async def count_streams() -> int:
        async with lab.client.get(f"{gateway.metrics_url}/debug/state") as response:
            return int((await response.json())["picker"]["open_streams"])

    async def stream_opened() -> bool:
        return await count_streams() > before

    async def idle() -> bool:
        return await count_streams() == before and await lab.count_inflight(gateway) == 0

    before = await count_streams()
    _, writer = await asyncio.open_connection(host, port)
    writer.write(CHUNKED + b'8\r\n{"model"\r\n')
    await lab.wait_until(stream_opened, "a stream for the request")
    writer.transport.abort()
    await lab.wait_until(idle, "no stream and no request in flight")
    status, _ = await lab.post_completion(gateway, body())
    assert status == 200
