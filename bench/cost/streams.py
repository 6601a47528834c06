"""Memory of many open ext_proc streams: requests whose answers go on, as seen by the picker. No Envoy needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial

import grpc.aio

from bench.cost.fleet import address
from bench.cost.load import PATH, bodies
from bench.cost.processes import BenchError, Process, Stage, free_port
from bench.cost.rig import START_SECONDS, Case, fleet_command, listens, picker_command, wait_for

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHANNELS = 8
AT_ONCE = 200
FULL_DUPLEX = 4
STREAM_SECONDS = 20.0

Call = "grpc.aio.StreamStreamCall[bytes, bytes]"


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field: bytes (or a message) with its length, or a small number."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def headers(number: int, values: dict[str, str]) -> bytes:
    """An HttpHeaders message in ProcessingRequest's field `number`, with the body modes as Envoy tells them."""
    items = b"".join(field(1, field(1, name.encode()) + field(3, value.encode())) for name, value in values.items())
    modes = field(1, FULL_DUPLEX) + field(2, FULL_DUPLEX)
    return field(number, field(1, items)) + field(11, modes)


REQUEST = {":method": "POST", ":path": PATH, ":authority": "gateway", "content-type": "application/json"}
RESPONSE = headers(3, {":status": "200", "content-type": "text/event-stream"})


async def _bounded(work: Awaitable[object]) -> None:
    """grpc.aio tells of the end of a stream by a marker, which here is a failure."""
    answer = await asyncio.wait_for(work, STREAM_SECONDS)
    if answer is grpc.aio.EOF:
        raise BenchError("the picker ended a stream whose answer goes on")


async def open_stream(channel: grpc.aio.Channel, request_id: str, body: bytes, gate: asyncio.Semaphore) -> object:
    """One request up to the first piece of its answer; the stream is then left open."""
    async with gate:
        call = channel.stream_stream(METHOD)()
        await _bounded(call.write(headers(2, {**REQUEST, "x-request-id": request_id})))
        await _bounded(call.write(field(4, field(1, body) + field(2, 1))))
        await _bounded(call.read())  # header mutation
        await _bounded(call.read())  # the body
        await _bounded(call.write(RESPONSE))
        await _bounded(call.read())
        await _bounded(call.write(field(5, field(1, b"data: {}\n\n"))))
        await _bounded(call.read())
        return call


async def hold(port: int, streams: int, picker: Process) -> dict[str, float]:
    """Opens the streams, reads the memory, closes them."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(CHANNELS)]
    await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in channels)), START_SECONDS)
    texts = [body.encode() for body in bodies(4096, 64)]
    gate = asyncio.Semaphore(AT_ONCE)
    warm = [await open_stream(channels[0], "warm", texts[0], gate)]
    before = picker.rss_bytes()
    calls = await asyncio.gather(
        *(open_stream(channels[i % CHANNELS], f"r-{i}", texts[i % len(texts)], gate) for i in range(streams))
    )
    await asyncio.sleep(1)
    after = picker.rss_bytes()
    for channel in channels:
        await channel.close()
    del warm
    return {"streams": len(calls), "rss_mb": after / 1e6, "kb_per_stream": (after - before) / streams / 1e3}


def open_streams(streams: int) -> dict[str, float]:
    """Resident memory of a picker that watches so many answers."""
    case = Case(name="streams")
    with Stage() as stage:
        port, servers_port = free_port(), free_port()
        fleet = stage.start("model servers", fleet_command(case, servers_port))
        wait_for("the model servers", partial(listens, address(case.servers - 1), servers_port), fleet)
        servers = [f"{address(i)}:{servers_port}" for i in range(case.servers)]
        picker = stage.start("picker", picker_command(case, port, servers))
        wait_for("the picker", partial(listens, "127.0.0.1", port), picker)
        try:
            return asyncio.run(hold(port, streams, picker))
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            raise BenchError(f"a stream failed: {error}\n{picker.tail()}") from error
