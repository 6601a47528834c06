"""The h2 library as the client: windows, cuts, floods."""

from __future__ import annotations

import asyncio
import random

import pytest
from h2.errors import ErrorCodes
from h2.events import StreamReset

from epp.grpc.http2 import frames


async def test_a_stalled_stream_does_not_stall_others(service, connect):
    async with connect(service.server.port) as client:
        await client.hello(window=1_000)
        client.request(1)
        client.message(1, b"s" * 50_000, end=True)
        await client.flush()
        while len(client.bodies.get(1, b"")) < 1_000:
            await client.events(acknowledge=False)
        client.request(3, "/t/Upper")
        client.message(3, b"quick")
        await client.flush()
        while 3 not in client.bodies:
            await client.events(acknowledge=False)
        assert client.bodies[3][5:] == b"QUICK"
        assert len(client.bodies[1]) == 1_000
        client.h2.increment_flow_control_window(60_000, 1)
        await client.flush()
        await client.ends(1)
        assert client.bodies[1][5:] == b"s" * 50_000
        assert client.fields[1]["grpc-status"] == "0"


async def test_a_larger_initial_window_wakes_a_stalled_stream(service, connect):
    async with connect(service.server.port) as client:
        await client.hello(window=10)
        client.request(1)
        client.message(1, b"s" * 5_000, end=True)
        await client.flush()
        while not client.bodies.get(1):
            await client.events(acknowledge=False)
        client.h2.update_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 60_000})
        await client.flush()
        await client.ends(1)
        assert client.bodies[1][5:] == b"s" * 5_000


async def test_octets_in_any_cut_and_streams_interleaved(service, connect):
    random_cuts = random.Random(7)
    async with connect(service.server.port) as client:
        await client.hello(window=1 << 20)
        client.h2.increment_flow_control_window(1 << 20)
        expected = {}
        for stream in range(1, 41, 2):
            client.request(stream)
        for stream in range(1, 41, 2):
            expected[stream] = bytes([stream]) * random_cuts.randrange(2_000)
            client.message(stream, expected[stream], end=True)
        data = client.h2.data_to_send()
        while data:
            cut = random_cuts.choice((1, 5, 9, 100, 3_000))
            client.writer.write(data[:cut])
            await client.writer.drain()
            await asyncio.sleep(0)
            data = data[cut:]
        await client.ends(*expected)
        assert {stream: client.bodies[stream][5:] for stream in expected} == expected


async def test_a_slow_reader_gets_everything(service, connect):
    async with connect(service.server.port) as client:
        await client.hello(window=frames.MAX_WINDOW_SIZE)
        client.h2.increment_flow_control_window(1 << 30)
        client.request(1, "/t/Repeats")
        client.message(1, b"24")
        await client.flush()
        await asyncio.sleep(0.05)
        await client.ends(1)
        assert client.bodies[1] == b"".join(b"\0\0\x10\0\0" + bytes([index]) * (1 << 20) for index in range(24))


async def test_a_peer_that_does_not_read_is_not_waited_for(kind, serve, connect):
    async with serve(kind, max_connection_backlog=2 << 20) as service, connect(service.server.port) as client:
        await client.hello(window=1_000)
        client.request(1, "/t/Hold")
        client.message(1, b"x")
        await client.flush()
        assert await service.heard.next() == b"x"
        for _ in range(3):
            service.calls[0].send(bytes(1 << 20))
        assert await service.heard.loss()
        assert service.server.rpc_stats.open_rpcs == 0


async def test_a_reset_is_a_loss(service, connect):
    async with connect(service.server.port) as client:
        await client.hello()
        client.request(1, "/t/Hold")
        client.message(1, b"x")
        await client.flush()
        assert await service.heard.next() == b"x"
        client.h2.reset_stream(1, ErrorCodes.CANCEL)
        await client.flush()
        assert await service.heard.loss()


async def test_ping_is_answered(service, connect):
    async with connect(service.server.port) as client:
        await client.hello()
        client.h2.ping(b"12345678")
        await client.flush()
        while not any(type(event).__name__ == "PingAckReceived" for event in await client.events()):
            pass


# From here on ours only: grpc decides some of these otherwise.


@pytest.fixture
async def native(serve):
    async with serve("native", reset_burst=200, max_concurrent_streams=50) as service:
        yield service


async def test_a_wrong_content_type(native, connect):
    async with connect(native.server.port) as client:
        await client.hello()
        client.request(1, content_type="text/plain")
        await client.flush()
        await client.ends(1)
        assert client.fields[1][":status"] == "415"


async def test_an_unsupported_encoding(native, connect):
    async with connect(native.server.port) as client:
        await client.hello()
        client.request(1, grpc_encoding="br")
        client.message(1, b"x", end=True)
        await client.flush()
        await client.ends(1)
        assert client.fields[1]["grpc-status"] == "12"
        assert "gzip" in client.fields[1]["grpc-accept-encoding"]


async def test_closing_says_goodbye(native, connect):
    async with connect(native.server.port) as client:
        await client.hello()
        client.request(1, "/t/Hold")
        client.message(1, b"x")
        await client.flush()
        assert await native.heard.next() == b"x"
        closing = asyncio.get_running_loop().create_task(native.server.close())
        assert (await client.terminated()).error_code is ErrorCodes.NO_ERROR
        assert await native.heard.loss()
        client.writer.close()
        await closing


async def test_rapid_resets(native, connect):
    async with connect(native.server.port) as client:
        await client.hello()
        for stream in range(1, 5_001, 2):
            client.request(stream, "/t/Hold")
            client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        await client.flush()
        assert (await client.terminated()).error_code is ErrorCodes.ENHANCE_YOUR_CALM
    assert native.server.rpc_stats.open_rpcs == 0


async def test_a_flood_of_continuations(native, connect):
    async with connect(native.server.port) as client:
        await client.hello()
        client.writer.write(frames.encode_frame(frames.HEADERS, 0, 1, b"\x83"))
        client.writer.write(frames.encode_frame(frames.CONTINUATION, 0, 1, b"\x83") * 10_000)
        assert (await client.terminated()).error_code is ErrorCodes.ENHANCE_YOUR_CALM


async def test_too_many_streams(native, connect):
    async with connect(native.server.port) as client:
        await client.hello()
        await client.events()
        assert client.h2.remote_settings.max_concurrent_streams == 50
        client.h2.remote_settings.max_concurrent_streams = 1_000
        client.h2.remote_settings.acknowledge()
        for stream in range(1, 103, 2):
            client.request(stream, "/t/Hold")
        await client.flush()
        events = await client.events()
        while not any(isinstance(event, StreamReset) for event in events):
            events = await client.events()
        assert [(e.stream_id, e.error_code) for e in events if isinstance(e, StreamReset)] == [
            (101, ErrorCodes.REFUSED_STREAM)
        ]


async def test_http1_is_told_goodbye(native, hung_up):
    reader, writer = await asyncio.open_connection("127.0.0.1", native.server.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = await reader.read()
    assert b"no HTTP/2 connection preface" in answer
    await hung_up(writer)


async def test_a_client_that_says_nothing(serve, hung_up):
    async with serve("native", handshake_timeout=0.02) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
        assert b"no SETTINGS from the client" in await reader.read()
        await hung_up(writer)
