"""Both transports with grpc.aio as the client."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest


async def exchange_messages(call, messages):
    """Sends `messages`, half-closes, returns all responses."""
    for message in messages:
        await call.write(message)
    await call.done_writing()
    return [message async for message in call]


async def keep_writing(call):
    for _ in range(10_000):
        await call.write(b"x" * 10_000)


async def test_unary(service):
    async with service.channel() as channel:
        assert await channel.unary_unary("/t/Upper")(b"hello") == b"HELLO"
    assert service.ended_rpcs == [("/t/Upper", 0)]


async def test_bidirectional_in_lockstep(service):
    async with service.channel() as channel:
        call = channel.stream_stream("/t/Echo")()
        for text in (b"one", b"", b"three"):
            await call.write(text)
            assert await call.read() == text
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_responses_from_a_timer(service):
    async with service.channel() as channel:
        assert await channel.unary_unary("/t/Later")(b"later") == b"later"


async def test_large_messages(service):
    messages = [bytes([index]) * size for index, size in enumerate((0, 1, 16_379, 16_380, 65_535, 3 << 20, 3 << 20))]
    options = [("grpc.max_receive_message_length", -1)]
    async with service.channel(options=options) as channel:
        assert await exchange_messages(channel.stream_stream("/t/Echo")(), messages) == messages


async def test_a_message_above_the_limit_is_resource_exhausted(kind, serve):
    async with serve(kind, max_message_size=1000) as service, service.channel() as channel:
        assert await channel.unary_unary("/t/Upper")(b"x" * 1000) == b"X" * 1000
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t/Upper")(b"x" * 1001)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_many_streams_at_once(service):
    async with service.channel() as channel:
        echo = channel.stream_stream("/t/Echo")
        expected = [[b"%d" % index, bytes(index * 100)] for index in range(200)]
        assert await asyncio.gather(*(exchange_messages(echo(), messages) for messages in expected)) == expected
    assert service.server.rpc_stats.open_rpcs == 0


async def test_gzip(service):
    async with service.channel(compression=grpc.Compression.Gzip) as channel:
        messages = [b"a" * 100_000, b"b", b""]
        assert await exchange_messages(channel.stream_stream("/t/Echo")(), messages) == messages


async def test_cancellation_by_the_client(service):
    async with service.channel() as channel:
        call = channel.stream_stream("/t/Record")()
        await call.write(b"x")
        assert await service.events.next() == b"x"
        call.cancel()
        assert await service.events.next_is_cancel()


async def test_a_disconnected_client_cancels_its_rpcs(service):
    async with service.channel() as channel:
        call = channel.stream_stream("/t/Record")()
        await call.write(b"x")
        assert await service.events.next() == b"x"
    assert await service.events.next_is_cancel()


async def test_responses_after_half_close(service):
    async with service.channel() as channel:
        call = channel.stream_stream("/t/Record")()
        await call.write(b"x")
        await call.done_writing()
        assert [await service.events.next(), await service.events.next()] == [b"x", "half-close"]
        service.calls[0].send(b"still here")
        service.calls[0].finish()
        assert await call.read() == b"still here"
        assert await call.code() is grpc.StatusCode.OK


async def test_an_unknown_method_is_unimplemented(service):
    async with service.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t/Nothing")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_status_and_details(service):
    async with service.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t/Reject")(b"x")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == "schön: 100 %"


async def test_finish_while_the_client_is_still_sending(service):
    async with service.channel() as channel:
        call = channel.stream_stream("/t/Reject")()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
            await keep_writing(call)
        # The status that the server sent: grpc.aio reports its own failed write as INTERNAL.
        assert service.ended_rpcs == [("/t/Reject", 9)]
        assert await channel.unary_unary("/t/Upper")(b"next") == b"NEXT"


async def test_an_exception_in_a_handler_is_internal(service):
    async with service.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t/Fail")(b"x")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert await service.events.next_is_cancel()


async def test_drain_finishes_open_streams(service):
    async with service.channel() as channel:
        call = channel.stream_stream("/t/Echo")()
        await call.write(b"before")
        assert await call.read() == b"before"
        draining = asyncio.get_running_loop().create_task(service.server.drain(20))
        await asyncio.sleep(0)
        await call.write(b"after")
        assert await call.read() == b"after"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(
                "/t/Upper",
            )(b"new", timeout=0.5)
        assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        assert not draining.done()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        await draining
    assert service.server.rpc_stats.open_rpcs == 0


async def test_drain_ends_after_its_grace_period(service):
    async with service.channel() as channel:
        call = channel.stream_stream("/t/Record")()
        await call.write(b"x")
        assert await service.events.next() == b"x"
        await service.server.drain(0.05)
        assert await service.events.next_is_cancel()
        assert await call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_close_is_idempotent(service):
    await service.server.close()
    await service.server.close()


async def test_a_port_in_use_is_an_oserror(kind, serve):
    async with serve(kind) as first:
        second = type(first.server)({}, first.server.clock if kind == "native" else first.server._clock)
        with pytest.raises(OSError, match=r"."):
            await second.start("127.0.0.1", first.server.port)
