"""Memory of many open ext_proc streams, whose requests are in the response phase. Needs no Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial

import grpc.aio

from bench.cost.fleet import server_address
from bench.cost.load import REQUEST_PATH, build_bodies
from bench.cost.processes import BenchError, MeasuredProcess, ProcessStack, find_free_port
from bench.cost.testbed import (
    START_TIMEOUT_SECONDS,
    BenchCase,
    build_fleet_command,
    build_picker_command,
    is_listening,
    wait_until,
)

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHANNELS = 8
CONCURRENT_OPENS = 200
FULL_DUPLEX_STREAMED = 4
OPERATION_TIMEOUT_SECONDS = 20.0


def encode_field(number: int, value: bytes | int) -> bytes:
    """One protobuf field: length-delimited, or a varint below 128."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    return bytes((number << 3 | 2,)) + _encode_varint(len(value)) + value


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def encode_http_headers(number: int, values: dict[str, str]) -> bytes:
    """An HttpHeaders message in ProcessingRequest's field `number`, with the body modes as sent by Envoy."""
    items = b"".join(
        encode_field(1, encode_field(1, name.encode()) + encode_field(3, value.encode()))
        for name, value in values.items()
    )
    modes = encode_field(1, FULL_DUPLEX_STREAMED) + encode_field(2, FULL_DUPLEX_STREAMED)
    return encode_field(number, encode_field(1, items)) + encode_field(11, modes)


REQUEST = {":method": "POST", ":path": REQUEST_PATH, ":authority": "gateway", "content-type": "application/json"}
RESPONSE = encode_http_headers(3, {":status": "200", "content-type": "text/event-stream"})


async def _with_timeout(operation: Awaitable[object]) -> None:
    """Waits for a read or write. Raises BenchError if the stream has ended."""
    result = await asyncio.wait_for(operation, OPERATION_TIMEOUT_SECONDS)
    if result is grpc.aio.EOF:
        raise BenchError("the picker ended a stream in the response phase")


async def open_stream(channel: grpc.aio.Channel, request_id: str, body: bytes, gate: asyncio.Semaphore) -> object:
    """Opens a stream and plays one request up to the first chunk of its response; the stream stays open."""
    async with gate:
        call = channel.stream_stream(METHOD)()
        await _with_timeout(call.write(encode_http_headers(2, {**REQUEST, "x-request-id": request_id})))
        await _with_timeout(call.write(encode_field(4, encode_field(1, body) + encode_field(2, 1))))
        await _with_timeout(call.read())  # header mutation
        await _with_timeout(call.read())  # body
        await _with_timeout(call.write(RESPONSE))
        await _with_timeout(call.read())
        await _with_timeout(call.write(encode_field(5, encode_field(1, b"data: {}\n\n"))))
        await _with_timeout(call.read())
        return call


async def measure_held_streams(port: int, streams: int, picker: MeasuredProcess) -> dict[str, float]:
    """Opens the streams, measures the picker's memory, and closes them."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(CHANNELS)]
    await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in channels)), START_TIMEOUT_SECONDS)
    bodies = [body.encode() for body in build_bodies(4096, 64)]
    gate = asyncio.Semaphore(CONCURRENT_OPENS)
    warm_up = await open_stream(channels[0], "warm", bodies[0], gate)  # allocates what is shared by all streams
    before = picker.rss_bytes()
    calls = await asyncio.gather(
        *(open_stream(channels[i % CHANNELS], f"r-{i}", bodies[i % len(bodies)], gate) for i in range(streams))
    )
    await asyncio.sleep(1)
    after = picker.rss_bytes()
    for channel in channels:
        await channel.close()
    del warm_up  # referenced until here: grpc cancels a call when it is garbage-collected
    return {"streams": len(calls), "rss_mb": after / 1e6, "kb_per_stream": (after - before) / streams / 1e3}


def measure_open_streams(streams: int) -> dict[str, float]:
    """Resident memory of a picker with this number of streams in the response phase."""
    case = BenchCase(name="streams")
    with ProcessStack() as stack:
        port, servers_port = find_free_port(), find_free_port()
        fleet = stack.start("model servers", build_fleet_command(case, servers_port))
        wait_until("the model servers", partial(is_listening, server_address(case.servers - 1), servers_port), fleet)
        servers = [f"{server_address(i)}:{servers_port}" for i in range(case.servers)]
        picker = stack.start("picker", build_picker_command(case, port, servers))
        wait_until("the picker", partial(is_listening, "127.0.0.1", port), picker)
        try:
            return asyncio.run(measure_held_streams(port, streams, picker))
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            raise BenchError(f"a stream failed: {error}\n{picker.tail_log()}") from error
