"""Both transports with the same test methods, a grpc.aio client and a raw HTTP/2 client."""

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


class Heard(asyncio.Queue[object]):
    """What handlers were told, in order."""

    async def next(self) -> object:
        async with asyncio.timeout(20):
            return await self.get()

    async def loss(self) -> bool:
        """Whether the next word is "lost". grpc.aio may take a reset for a half-close first when it is slow."""
        heard = await self.next()
        return (await self.next() if heard == "half-closed" and self.half_closes_first else heard) == "lost"

    half_closes_first = False


class Hold:
    """Tells the test what it hears and answers nothing."""

    def __init__(self, call: ServerCall, service: Service) -> None:
        self.call = call
        self.service = service
        service.calls.append(call)

    def on_message(self, data: bytes) -> None:
        self.service.heard.put_nowait(data)

    def on_half_close(self) -> None:
        self.service.heard.put_nowait("half-closed")

    def on_cancel(self) -> None:
        self.service.heard.put_nowait("lost")


class Echo(Hold):
    """Sends every message back and ends with the client."""

    def on_message(self, data: bytes) -> None:
        self.call.send(data)

    def on_half_close(self) -> None:
        self.call.finish()


class Upper(Hold):
    """One message in, one out."""

    def on_message(self, data: bytes) -> None:
        self.call.send(data.upper())
        self.call.finish()


class Later(Hold):
    """Answers from a timer, outside any read."""

    def on_message(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, self.call.send, data)
        loop.call_later(0.02, self.call.finish)


class Refuses(Hold):
    """Ends at the first message, however much the client still wants to send."""

    def on_message(self, data: bytes) -> None:
        self.call.finish(9, "schön: 100 %")


class Fails(Hold):
    """Has a bug."""

    def on_message(self, data: bytes) -> None:
        raise RuntimeError("a bug")


class Repeats(Hold):
    """Answers with as many MiB as the message says."""

    def on_message(self, data: bytes) -> None:
        for index in range(int(data)):
            self.call.send(bytes([index]) * (1 << 20))
        self.call.finish()


@dataclass
class Service:
    """One server under test."""

    server: Any = None
    heard: Heard = field(default_factory=Heard)
    calls: list[ServerCall] = field(default_factory=list)
    ended: list[tuple[str, int]] = field(default_factory=list)

    def methods(self) -> dict[str, Callable[[ServerCall], Hold]]:
        kinds = (Hold, Echo, Upper, Later, Refuses, Fails, Repeats)
        return {f"/t/{kind.__name__}": lambda call, kind=kind: kind(call, self) for kind in kinds}

    def on_end(self, name: str, status: int, started: float) -> None:
        self.ended.append((name, status))

    def channel(self, **options: Any) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.server.port}", **options)


SERVERS = {"native": GrpcServer, "grpcio": GrpcioServer}


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """The transport under test."""
    return str(request.param)


@asynccontextmanager
async def serving(kind: str, context: ssl.SSLContext | None = None, **limits: float) -> AsyncIterator[Service]:
    service = Service()
    service.heard.half_closes_first = kind == "grpcio"
    service.server = SERVERS[kind](service.methods(), SystemClock(), TransportLimits(**limits), service.on_end)
    await service.server.start("127.0.0.1", 0, context)
    try:
        yield service
    finally:
        await service.server.close()


@pytest.fixture
def serve() -> Any:
    """`async with serve(kind, ssl_context, **limits) as service`."""
    return serving


@pytest.fixture
async def service(kind: str) -> AsyncIterator[Service]:
    async with serving(kind) as service:
        yield service


class RawClient:
    """The `h2` library over a socket; sends when told, reads when told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.bodies: dict[int, bytearray] = {}
        self.fields: dict[int, dict[str, str]] = {}

    async def hello(self, window: int = 65_535) -> None:
        self.h2.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    def request(self, stream: int, path: str = "/t/Echo", **fields: str) -> None:
        headers = {
            ":method": "POST", ":scheme": "http", ":path": path, ":authority": "t",
            "te": "trailers", "content-type": "application/grpc",
        }  # fmt: skip
        replaced = {name.replace("_", "-"): value for name, value in fields.items()}
        self.h2.send_headers(stream, [*{**headers, **replaced}.items()])

    def message(self, stream: int, data: bytes, *, end: bool = False) -> None:
        framed = b"\0" + len(data).to_bytes(4, "big") + data
        for start in range(0, len(framed), 16_384):
            self.h2.send_data(stream, framed[start : start + 16_384])
        if end:
            self.h2.end_stream(stream)

    async def events(self, *, acknowledge: bool = True) -> list[Event]:
        """What one read brings; grants the windows again if asked to."""
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

    async def ends(self, *streams: int) -> None:
        """Reads until these streams have ended."""
        waiting = set(streams)
        while waiting:
            for event in await self.events():
                if isinstance(event, (StreamEnded, StreamReset)):
                    waiting.discard(event.stream_id)
                assert not isinstance(event, ConnectionTerminated), event

    async def terminated(self) -> ConnectionTerminated:
        """Reads until the server says GOAWAY, or hangs up."""
        while True:
            for event in await self.events():
                if isinstance(event, ConnectionTerminated):
                    return event


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Cuts the connection and waits for it: grpc answers no TLS goodbye, and one that is still owed when the loop
    closes fails whatever test comes next."""
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


@pytest.fixture
def hung_up() -> Any:
    """`await hung_up(writer)`."""
    return hang_up


@asynccontextmanager
async def connected(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None
    )
    try:
        yield RawClient(reader, writer)
    finally:
        await hang_up(writer)


@pytest.fixture
def connect() -> Any:
    """`async with connect(port, ssl_context) as raw_client`."""
    return connected
