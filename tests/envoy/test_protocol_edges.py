"""Edge cases of ext_proc with real Envoy and a picker in this process that always picks the same model server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from epp.address import split_host_port
from epp.extproc.session import RequestLimits
from epp.gateway.envoy_bootstrap import pack_any

from .edge import post_request, start_edge

MODES = ["NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"]
ABORT = {
    "name": "abort",
    "typed_config": pack_any(
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        abort={"header_abort": {}, "percentage": {"numerator": 100}},
    ),
}


def insert_first(filter_: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda manager: manager["http_filters"].insert(0, filter_)


@pytest.mark.parametrize("response", MODES)
@pytest.mark.parametrize("request_", MODES)
async def test_requests_pass_with_every_pair_of_body_modes(tmp_path, request_, response):
    async with start_edge(tmp_path, request_body_mode=request_, response_body_mode=response) as at:
        for size in (10, 150_000):
            status, seen = await post_request(at, body=bytes(size))
            assert (status, seen) == (200, {"bytes": size, "to": at.picker.target})
            assert await at.picker.next_end() == "completed"
        await at.wait_for_no_streams()


async def test_a_response_of_an_earlier_filter_passes(tmp_path):
    async with start_edge(tmp_path, change=insert_first(ABORT)) as at:
        status, text = await post_request(at, x_envoy_fault_abort_request="418")
        assert (status, text) == (418, "fault filter abort")
        assert at.picker.requests == []
        await at.wait_for_no_streams()


# In the buffered modes Envoy waits for the end of the body, which a websocket does not have.
@pytest.mark.parametrize("mode", ["NONE", "STREAMED", "FULL_DUPLEX_STREAMED"])
@pytest.mark.parametrize("observe", [True, False])
async def test_a_websocket_is_proxied(tmp_path, mode, observe):
    async with start_edge(tmp_path, observe=observe, request_body_mode=mode, response_body_mode=mode) as at:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{at.url}/socket", timeout=aiohttp.ClientWSTimeout(ws_close=5)) as socket,
        ):
            for text in ("one", "two"):
                await socket.send_str(text)
                assert await socket.receive_str(timeout=10) == f"echo {text}"
        await at.wait_for_no_streams()
        if observe:
            assert await at.picker.next_end() in {"completed", "disconnected"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delay", [0.0, 0.05])
async def test_a_request_with_trailers_is_routed(tmp_path, mode, delay):
    def remove_retry_policy(manager: dict[str, Any]) -> None:
        """Envoy sends such a body twice to the model server if its route has a retry policy (its issue 45470)."""
        manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"].pop("retry_policy")

    async with start_edge(tmp_path, delay=delay, change=remove_retry_policy, request_body_mode=mode) as at:
        reader, writer = await asyncio.open_connection(*split_host_port(at.url.removeprefix("http://")))
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n"
            b"trailer: x-t\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
        )
        async with asyncio.timeout(20):
            text = await reader.read()
        writer.close()
        assert text.startswith(b"HTTP/1.1 200"), text
        assert b'"bytes": 3' in text
        await at.wait_for_no_streams()


@pytest.mark.parametrize("mode", MODES)
async def test_a_model_server_that_responds_before_it_reads_the_body(tmp_path, mode):
    async with start_edge(tmp_path, request_body_mode=mode) as at:
        status, _ = await post_request(at, "/teapot", body=bytes(150_000))
        assert status == 418
        await at.wait_for_no_streams()


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_disconnects_within_its_request(tmp_path, mode):
    async with start_edge(tmp_path, request_body_mode=mode) as at:
        _, writer = await asyncio.open_connection(*split_host_port(at.url.removeprefix("http://")))
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc")
        await at.wait_for_stream()
        writer.close()
        await at.wait_for_no_streams()
        # In these modes the picker decides by the headers alone.
        decided = mode in {"NONE", "STREAMED"}
        assert len(at.picker.requests) == decided
        if decided:
            assert await at.picker.next_end() == "disconnected"


async def test_a_client_that_disconnects_before_the_response(tmp_path):
    async with start_edge(tmp_path) as at:
        request = asyncio.ensure_future(post_request(at, "/hangs"))
        await at.wait_for_decision()
        request.cancel()
        assert await at.picker.next_end() == "disconnected"
        await at.wait_for_no_streams()


@pytest.mark.parametrize("mode", MODES)
async def test_a_body_above_the_limit_is_rejected_unless_it_is_not_kept(tmp_path, mode):
    async with start_edge(tmp_path, limits=RequestLimits(max_body_bytes=100_000), request_body_mode=mode) as at:

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield bytes(10_000)

        for body in (bytes(300_000), chunks()):
            status, text = await post_request(at, body=body)
            if mode in {"NONE", "STREAMED"}:  # not buffered by the picker, so not limited
                assert (status, text["bytes"]) == (200, 300_000)
            else:
                assert status == 413
                assert text == "inference error: PayloadTooLarge - request body above the limit of 100000 bytes"
        await at.wait_for_no_streams()


async def test_without_request_headers_the_response_is_an_error(tmp_path):
    async with start_edge(tmp_path, request_header_mode="SKIP", request_body_mode="BUFFERED") as at:
        status, text = await post_request(at)
        assert status == 500
        assert text.startswith("inference error: Internal - the gateway sent request_body")
        await at.wait_for_no_streams()


async def test_in_observability_mode_requests_pass_unchanged(tmp_path):
    def enable_observability_mode(manager: dict[str, Any]) -> None:
        (config,) = [item["typed_config"] for item in manager["http_filters"] if item["name"] == "picker"]
        config["observability_mode"] = True

    modes = {"request_body_mode": "STREAMED", "response_body_mode": "STREAMED"}
    async with start_edge(tmp_path, change=enable_observability_mode, **modes) as at:
        status, seen = await post_request(at, body=bytes(1000))
        assert (status, seen) == (200, {"bytes": 1000, "to": None})
        await at.wait_for_no_streams()
