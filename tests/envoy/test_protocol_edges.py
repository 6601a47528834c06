"""Corners of ext_proc as real Envoy plays them, with a picker in this process that always picks one model server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from epp.extproc.session import RequestLimits
from epp.gateway.envoy_bootstrap import pack_any

from .edge import edge, post

MODES = ["NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"]
ABORT = {
    "name": "abort",
    "typed_config": pack_any(
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        abort={"header_abort": {}, "percentage": {"numerator": 100}},
    ),
}


def first_filter(filter_: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda manager: manager["http_filters"].insert(0, filter_)


@pytest.mark.parametrize("response", MODES)
@pytest.mark.parametrize("request_", MODES)
async def test_every_pair_of_body_modes(tmp_path, request_, response):
    async with edge(tmp_path, request_body_mode=request_, response_body_mode=response) as at:
        for size in (10, 150_000):
            status, seen = await post(at, body=bytes(size))
            assert (status, seen) == (200, {"bytes": size, "to": at.picker.target})
            assert await at.picker.end() == "completed"
        await at.quiet()


async def test_an_answer_of_a_filter_before_us_passes(tmp_path):
    async with edge(tmp_path, change=first_filter(ABORT)) as at:
        status, text = await post(at, x_envoy_fault_abort_request="418")
        assert (status, text) == (418, "fault filter abort")
        assert at.picker.asked == []
        await at.quiet()


# In the buffered modes Envoy itself waits for an end of the body that never comes.
@pytest.mark.parametrize("mode", ["NONE", "STREAMED", "FULL_DUPLEX_STREAMED"])
@pytest.mark.parametrize("observe", [True, False])
async def test_a_websocket_passes(tmp_path, mode, observe):
    async with edge(tmp_path, observe=observe, request_body_mode=mode, response_body_mode=mode) as at:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{at.url}/socket", timeout=aiohttp.ClientWSTimeout(ws_close=5)) as socket,
        ):
            for word in ("one", "two"):
                await socket.send_str(word)
                assert await socket.receive_str(timeout=10) == f"echo {word}"
        await at.quiet()
        if observe:
            assert await at.picker.end() in {"completed", "disconnected"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delay", [0.0, 0.05])
async def test_a_request_with_trailers(tmp_path, mode, delay):
    def once(manager: dict[str, Any]) -> None:
        """Envoy sends such a body twice to the model server if its route has a retry policy (its issue 45470)."""
        manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"].pop("retry_policy")

    async with edge(tmp_path, delay=delay, change=once, request_body_mode=mode) as at:
        host, port = at.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n"
            b"trailer: x-t\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
        )
        async with asyncio.timeout(20):
            text = await reader.read()
        writer.close()
        assert text.startswith(b"HTTP/1.1 200"), text
        assert b'"bytes": 3' in text
        await at.quiet()


@pytest.mark.parametrize("mode", MODES)
async def test_a_model_server_that_refuses_before_it_reads(tmp_path, mode):
    async with edge(tmp_path, request_body_mode=mode) as at:
        status, _ = await post(at, "/refuses", body=bytes(150_000))
        assert status == 418
        await at.quiet()


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_leaves_within_its_request(tmp_path, mode):
    async with edge(tmp_path, request_body_mode=mode) as at:
        host, port = at.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc")
        await at.streaming()
        writer.close()
        await at.quiet()
        seen = mode in {"NONE", "STREAMED"}
        assert len(at.picker.asked) == seen
        if seen:
            assert await at.picker.end() == "disconnected"


async def test_a_client_that_leaves_while_the_answer_is_awaited(tmp_path):
    async with edge(tmp_path) as at:
        leaving = asyncio.ensure_future(post(at, "/hangs"))
        await at.asked()
        leaving.cancel()
        assert await at.picker.end() == "disconnected"
        await at.quiet()


@pytest.mark.parametrize("mode", MODES)
async def test_a_body_above_the_limit(tmp_path, mode):
    async with edge(tmp_path, limits=RequestLimits(max_body_bytes=100_000), request_body_mode=mode) as at:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield bytes(10_000)

        for body in (bytes(300_000), pieces()):
            status, text = await post(at, body=body)
            if mode in {"NONE", "STREAMED"}:  # it passes without being kept
                assert (status, text["bytes"]) == (200, 300_000)
            else:
                assert status == 413
                assert text == "inference error: PayloadTooLarge - request body above the limit of 100000 bytes"
        await at.quiet()


async def test_a_gateway_that_sends_no_request_headers_hears_of_it(tmp_path):
    async with edge(tmp_path, request_header_mode="SKIP", request_body_mode="BUFFERED") as at:
        status, text = await post(at)
        assert status == 500
        assert text.startswith("inference error: Internal - the gateway sent request_body")
        await at.quiet()


async def test_a_gateway_that_only_lets_us_watch(tmp_path):
    def observing(manager: dict[str, Any]) -> None:
        (config,) = [item["typed_config"] for item in manager["http_filters"] if item["name"] == "picker"]
        config["observability_mode"] = True

    modes = {"request_body_mode": "STREAMED", "response_body_mode": "STREAMED"}
    async with edge(tmp_path, change=observing, **modes) as at:
        status, seen = await post(at, body=bytes(1000))
        assert (status, seen) == (200, {"bytes": 1000, "to": None})
        await at.quiet()
