"""Both transports with a raw HTTP/2 client: flow control, fragmented input, resets; abuse limits of the native one."""

from __future__ import annotations

import asyncio
import random

import pytest
from h2.errors import ErrorCodes
from h2.events import StreamReset

from epp.grpc.http2 import frames


async def test_a_stalled_stream_does_not_stall_others(service, connect):
    async with connect(service.server.port) as client:
        await client.send_preface(window=1_000)
        client.send_request(1)
        client.send_message(1, b"s" * 50_000, end=True)
        await client.flush()
        while len(client.bodies.get(1, b"")) < 1_000:
            await client.read_events(acknowledge=False)
        client.send_request(3, "/t/Upper")
        client.send_message(3, b"quick")
        await client.flush()
        while 3 not in client.bodies:
            await client.read_events(acknowledge=False)
        assert client.bodies[3][5:] == b"QUICK"
        assert len(client.bodies[1]) == 1_000
        client.h2.increment_flow_control_window(60_000, 1)
        await client.flush()
        await client.read_until_ended(1)
        assert client.bodies[1][5:] == b"s" * 50_000
        assert client.fields[1]["grpc-status"] == "0"


async def test_a_larger_initial_window_resumes_a_stalled_stream(service, connect):
    async with connect(service.server.port) as client:
        await client.send_preface(window=10)
        client.send_request(1)
        client.send_message(1, b"s" * 5_000, end=True)
        await client.flush()
        while not client.bodies.get(1):
            await client.read_events(acknowledge=False)
        client.h2.update_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 60_000})
        await client.flush()
        await client.read_until_ended(1)
        assert client.bodies[1][5:] == b"s" * 5_000


async def test_fragmented_input_with_interleaved_streams(service, connect):
    rng = random.Random(7)
    async with connect(service.server.port) as client:
        await client.send_preface(window=1 << 20)
        client.h2.increment_flow_control_window(1 << 20)
        expected = {}
        for stream in range(1, 41, 2):
            client.send_request(stream)
        for stream in range(1, 41, 2):
            expected[stream] = bytes([stream]) * rng.randrange(2_000)
            client.send_message(stream, expected[stream], end=True)
        data = client.h2.data_to_send()
        while data:
            size = rng.choice((1, 5, 9, 100, 3_000))
            client.writer.write(data[:size])
            await client.writer.drain()
            await asyncio.sleep(0)
            data = data[size:]
        await client.read_until_ended(*expected)
        assert {stream: client.bodies[stream][5:] for stream in expected} == expected


async def test_a_slow_reader_gets_the_whole_response(service, connect):
    async with connect(service.server.port) as client:
        await client.send_preface(window=frames.MAX_WINDOW_SIZE)
        client.h2.increment_flow_control_window(1 << 30)
        client.send_request(1, "/t/Repeat")
        client.send_message(1, b"24")
        await client.flush()
        await asyncio.sleep(0.05)
        await client.read_until_ended(1)
        assert client.bodies[1] == b"".join(b"\0\0\x10\0\0" + bytes([index]) * (1 << 20) for index in range(24))


async def test_an_rpc_whose_output_is_not_read_is_cancelled_at_the_limit(kind, serve, connect):
    async with serve(kind, max_connection_backlog=2 << 20) as service, connect(service.server.port) as client:
        await client.send_preface(window=1_000)
        client.send_request(1, "/t/Record")
        client.send_message(1, b"x")
        await client.flush()
        assert await service.events.next() == b"x"
        for _ in range(3):
            service.calls[0].send(bytes(1 << 20))
        assert await service.events.next_is_cancel()
        assert service.server.rpc_stats.open_rpcs == 0


async def test_a_reset_cancels_the_rpc(service, connect):
    async with connect(service.server.port) as client:
        await client.send_preface()
        client.send_request(1, "/t/Record")
        client.send_message(1, b"x")
        await client.flush()
        assert await service.events.next() == b"x"
        client.h2.reset_stream(1, ErrorCodes.CANCEL)
        await client.flush()
        assert await service.events.next_is_cancel()


async def test_ping_is_acknowledged(service, connect):
    async with connect(service.server.port) as client:
        await client.send_preface()
        client.h2.ping(b"12345678")
        await client.flush()
        while not any(type(event).__name__ == "PingAckReceived" for event in await client.read_events()):
            pass


# The native transport only: grpc differs in some of these cases.


@pytest.fixture
async def native(serve):
    async with serve("native", reset_burst=200, max_concurrent_streams=50) as service:
        yield service


async def test_a_wrong_content_type_is_415(native, connect):
    async with connect(native.server.port) as client:
        await client.send_preface()
        client.send_request(1, content_type="text/plain")
        await client.flush()
        await client.read_until_ended(1)
        assert client.fields[1][":status"] == "415"


async def test_an_unsupported_encoding_is_unimplemented(native, connect):
    async with connect(native.server.port) as client:
        await client.send_preface()
        client.send_request(1, grpc_encoding="br")
        client.send_message(1, b"x", end=True)
        await client.flush()
        await client.read_until_ended(1)
        assert client.fields[1]["grpc-status"] == "12"
        assert "gzip" in client.fields[1]["grpc-accept-encoding"]


async def test_close_sends_goaway(native, connect):
    async with connect(native.server.port) as client:
        await client.send_preface()
        client.send_request(1, "/t/Record")
        client.send_message(1, b"x")
        await client.flush()
        assert await native.events.next() == b"x"
        close = asyncio.get_running_loop().create_task(native.server.close())
        assert (await client.read_until_terminated()).error_code is ErrorCodes.NO_ERROR
        assert await native.events.next_is_cancel()
        client.writer.close()
        await close


async def test_rapid_resets_end_the_connection(native, connect):
    async with connect(native.server.port) as client:
        await client.send_preface()
        for stream in range(1, 5_001, 2):
            client.send_request(stream, "/t/Record")
            client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        await client.flush()
        assert (await client.read_until_terminated()).error_code is ErrorCodes.ENHANCE_YOUR_CALM
    assert native.server.rpc_stats.open_rpcs == 0


async def test_a_continuation_flood_ends_the_connection(native, connect):
    async with connect(native.server.port) as client:
        await client.send_preface()
        client.writer.write(frames.encode_frame(frames.HEADERS, 0, 1, b"\x83"))
        client.writer.write(frames.encode_frame(frames.CONTINUATION, 0, 1, b"\x83") * 10_000)
        assert (await client.read_until_terminated()).error_code is ErrorCodes.ENHANCE_YOUR_CALM


async def test_streams_above_the_limit_are_refused(native, connect):
    async with connect(native.server.port) as client:
        await client.send_preface()
        await client.read_events()
        assert client.h2.remote_settings.max_concurrent_streams == 50
        client.h2.remote_settings.max_concurrent_streams = 1_000
        client.h2.remote_settings.acknowledge()
        for stream in range(1, 103, 2):
            client.send_request(stream, "/t/Record")
        await client.flush()
        events = await client.read_events()
        while not any(isinstance(event, StreamReset) for event in events):
            events = await client.read_events()
        assert [(e.stream_id, e.error_code) for e in events if isinstance(e, StreamReset)] == [
            (101, ErrorCodes.REFUSED_STREAM)
        ]


async def test_http1_clients_get_goaway_with_the_reason(native, abort_connection):
    reader, writer = await asyncio.open_connection("127.0.0.1", native.server.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    response = await reader.read()
    assert b"no HTTP/2 connection preface" in response
    await abort_connection(writer)


async def test_a_client_that_sends_nothing_times_out(serve, abort_connection):
    async with serve("native", handshake_timeout=0.02) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
        assert b"no SETTINGS from the client" in await reader.read()
        await abort_connection(writer)
