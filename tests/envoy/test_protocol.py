"""What the transcripts of tests/conformance/extproc claim about Envoy, asked of Envoy itself."""

from __future__ import annotations

import asyncio
import json

import pytest

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED"]
SEEING = MODES[:2]


def body(size: int = 100) -> bytes:
    return json.dumps({"model": "old", "prompt": "p" * size}).encode()


@pytest.mark.parametrize("completion", ["extproc", "access-log"])
@pytest.mark.parametrize("mode", SEEING)
async def test_a_body_that_changes_in_length_arrives_whole(lab, mode, completion):
    (backend,) = await lab.backends(1)
    gateway = await lab.gateway(backend, body_mode=mode, completion=completion)
    for name in ("n", "a-much-longer-name-of-a-model"):
        for size in (100, 300_000):
            status, seen = await lab.complete(gateway, body(size), x_llm_d_model_name_rewrite=name)
            assert (status, seen["bytes"]) == (200, len(body(size)) - len("old") + len(name))
            assert seen["headers"].get("content-length") in {None, str(seen["bytes"])}


@pytest.mark.parametrize("mode", MODES)
async def test_control_headers_end_at_the_picker(lab, mode):
    (backend,) = await lab.backends(1)
    gateway = await lab.gateway(backend, body_mode=mode, completion="extproc")
    sent = {
        "x_llm_d_inference_objective": "high",
        "x_gateway_inference_fairness_id": "tenant",
        "x_llm_d_slo_ttft_ms": "100",
        "x_kv_cache_source_host_port": "169.254.169.254:80",
        "x_prefiller_host_port": "169.254.169.254:80",
        "x_mine": "1",
    }
    status, seen = await lab.complete(gateway, body(), **sent)
    assert status == 200
    found = {name for name in seen["headers"] if name.replace("-", "_") in sent}
    assert found == {"x-mine"}


@pytest.mark.parametrize("mode", SEEING)
async def test_a_refusal_keeps_its_reason(lab, mode):
    (backend,) = await lab.backends(1)
    gateway = await lab.gateway(backend, body_mode=mode)
    for number in range(3):
        status, text = await lab.complete(gateway, b'{"model": ' + b"x" * number)
        assert status == 400
        assert text.startswith("inference error: BadRequest - ")


async def exchange(url: str, *pieces: bytes, until: bytes) -> bytes:
    """Sends the pieces over one connection and reads until `until` has come."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.readuntil(until)
    finally:
        writer.close()


CHUNKED = b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\ntrailer: checksum\r\n\r\n"


@pytest.mark.parametrize("completion", ["extproc", "access-log"])
@pytest.mark.parametrize("mode", MODES)
async def test_requests_with_trailers(lab, mode, completion):
    (backend,) = await lab.backends(1)
    gateway = await lab.gateway(backend, body_mode=mode, completion=completion)
    data = body()
    sent = [CHUNKED, b"%x\r\n%s\r\n" % (len(data), data), b"0\r\nchecksum: 1\r\n\r\n"]
    answer = await exchange(gateway.url, *sent, until=b"}")
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert backend.served == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("completion", ["extproc", "access-log"])
async def test_a_client_that_leaves_within_its_body_is_forgotten(lab, mode, completion):
    (backend,) = await lab.backends(1)
    gateway = await lab.gateway(backend, body_mode=mode, completion=completion)
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")

    async def streams() -> int:
        async with lab.client.get(f"{gateway.metrics_url}/debug/state") as answer:
            return int((await answer.json())["picker"]["open_streams"])

    async def one_more() -> bool:
        return await streams() > before

    async def none() -> bool:
        return await streams() == before and await lab.inflight(gateway) == 0

    before = await streams()
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(CHUNKED + b'8\r\n{"model"\r\n')
    await lab.eventually(one_more, "a stream for the request")
    writer.transport.abort()
    await lab.eventually(none, "no stream and no request in flight")
    status, _ = await lab.complete(gateway, body())
    assert status == 200
