"""Both transports with the same test methods, for a grpc.aio client and a raw HTTP/2 client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings

from epp.clock import SystemClock
from epp.grpc.grpcio_server import GrpcioServer
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import ServerCall
from epp.grpc.server import GrpcServer


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


class HandlerEvents(asyncio.Queue[object]):
    """Calls of all handlers, in order: messages, "half-close", "cancel"."""

    async def next(self) -> object:
        async with asyncio.timeout(20):
            return await self.get()

    async def next_is_cancel(self) -> bool:
        """Whether the next event is "cancel". grpc.aio may report a reset as half-close first when it is slow."""
        event = await self.next()
        return (await self.next() if event == "half-close" and self.half_closes_first else event) == "cancel"

    half_closes_first = False


class Record:
    """Records its calls and does not respond."""

    def __init__(self, call: ServerCall, service: Service) -> None:
        self.call = call
        self.service = service
        service.calls.append(call)

    def on_message(self, data: bytes) -> None:
        self.service.events.put_nowait(data)

    def on_half_close(self) -> None:
        self.service.events.put_nowait("half-close")

    def on_cancel(self) -> None:
        self.service.events.put_nowait("cancel")


class Echo(Record):
    """Sends every message back, and finishes when the client half-closes."""

    def on_message(self, data: bytes) -> None:
        self.call.send(data)

    def on_half_close(self) -> None:
        self.call.finish()


class Upper(Record):
    """Unary: one message in, one out."""

    def on_message(self, data: bytes) -> None:
        self.call.send(data.upper())
        self.call.finish()


class Later(Record):
    """Responds from a timer."""

    def on_message(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, self.call.send, data)
        loop.call_later(0.02, self.call.finish)


class Reject(Record):
    """Finishes with an error at the first message."""

    def on_message(self, data: bytes) -> None:
        self.call.finish(9, "schön: 100 %")


class Fail(Record):
    """Raises on every message."""

    def on_message(self, data: bytes) -> None:
        raise RuntimeError("a bug")


class Repeat(Record):
    """Responds with as many messages of 1 MiB as the request says."""

    def on_message(self, data: bytes) -> None:
        for index in range(int(data)):
            self.call.send(bytes([index]) * (1 << 20))
        self.call.finish()


@dataclass
class Service:
    """One server under test, and what its handlers recorded."""

    server: Any = None
    events: HandlerEvents = field(default_factory=HandlerEvents)
    calls: list[ServerCall] = field(default_factory=list)
    ended_rpcs: list[tuple[str, int]] = field(default_factory=list)

    def methods(self) -> dict[str, Callable[[ServerCall], Record]]:
        handlers = (Record, Echo, Upper, Later, Reject, Fail, Repeat)
        return {f"/t/{handler.__name__}": lambda call, handler=handler: handler(call, self) for handler in handlers}

    def on_rpc_end(self, name: str, status: int, started: float) -> None:
        self.ended_rpcs.append((name, status))

    def channel(self, **options: Any) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.server.port}", **options)


SERVERS = {"native": GrpcServer, "grpcio": GrpcioServer}


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """The transport under test."""
    return str(request.param)


@asynccontextmanager
async def start_service(kind: str, context: ssl.SSLContext | None = None, **limits: float) -> AsyncIterator[Service]:
    service = Service()
    service.events.half_closes_first = kind == "grpcio"
    service.server = SERVERS[kind](service.methods(), SystemClock(), TransportLimits(**limits), service.on_rpc_end)
    await service.server.start("127.0.0.1", 0, context)
    try:
        yield service
    finally:
        await service.server.close()


@pytest.fixture
def serve() -> Any:
    """`async with serve(kind, ssl_context, **limits) as service`."""
    return start_service


@pytest.fixture
async def service(kind: str) -> AsyncIterator[Service]:
    async with start_service(kind) as service:
        yield service


class RawClient:
    """An HTTP/2 client of the `h2` library on a socket; sends and reads only when a test calls it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.bodies: dict[int, bytearray] = {}
        self.fields: dict[int, dict[str, str]] = {}

    async def send_preface(self, window: int = 65_535) -> None:
        self.h2.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    def send_request(self, stream: int, path: str = "/t/Echo", **fields: str) -> None:
        headers = {
            ":method": "POST", ":scheme": "http", ":path": path, ":authority": "t",
            "te": "trailers", "content-type": "application/grpc",
        }  # fmt: skip
        replaced = {name.replace("_", "-"): value for name, value in fields.items()}
        self.h2.send_headers(stream, [*{**headers, **replaced}.items()])

    def send_message(self, stream: int, data: bytes, *, end: bool = False) -> None:
        framed = b"\0" + len(data).to_bytes(4, "big") + data
        for start in range(0, len(framed), 16_384):
            self.h2.send_data(stream, framed[start : start + 16_384])
        if end:
            self.h2.end_stream(stream)

    async def read_events(self, *, acknowledge: bool = True) -> list[Event]:
        """Events of one read; replenishes the windows if `acknowledge`."""
        async with asyncio.timeout(20):
            data = await self.reader.read(1 << 16)
        if not data:
            return [ConnectionTerminated()]
        events = self.h2.receive_data(data)
        for event in events:
            if isinstance(event, DataReceived):
                self.bodies.setdefault(event.stream_id, bytearray()).extend(event.data)
                if acknowledge and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif hasattr(event, "headers") and event.headers is not None:
                self.fields.setdefault(event.stream_id, {}).update(event.headers)
        await self.flush()
        return events

    async def read_until_ended(self, *streams: int) -> None:
        """Reads until these streams have ended."""
        waiting = set(streams)
        while waiting:
            for event in await self.read_events():
                if isinstance(event, (StreamEnded, StreamReset)):
                    waiting.discard(event.stream_id)
                assert not isinstance(event, ConnectionTerminated), event

    async def read_until_terminated(self) -> ConnectionTerminated:
        """Reads until the server sends GOAWAY or closes the connection."""
        while True:
            for event in await self.read_events():
                if isinstance(event, ConnectionTerminated):
                    return event


async def abort(writer: asyncio.StreamWriter) -> None:
    """Aborts the connection and waits until it is closed.

    grpc does not answer TLS close_notify, and a connection still waiting for it when the loop closes would fail the
    next test.
    """
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


@pytest.fixture
def abort_connection() -> Any:
    """`await abort_connection(writer)`."""
    return abort


@asynccontextmanager
async def connect_client(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None
    )
    try:
        yield RawClient(reader, writer)
    finally:
        await abort(writer)


@pytest.fixture
def connect() -> Any:
    """`async with connect(port, ssl_context) as raw_client`."""
    return connect_client
