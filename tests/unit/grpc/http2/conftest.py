"""A client that writes frames by hand, so that it can be wrong, and handlers that write down what they hear."""

from __future__ import annotations

from collections.abc import Callable
from struct import unpack
from typing import NamedTuple

import hpack
import pytest

from epp.clock import ManualClock
from epp.grpc.http2 import frames as h2
from epp.grpc.http2.connection import Connection
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import ServerCall
from epp.grpc.rpc_stats import RpcStats

NAMES = {
    h2.DATA: "DATA",
    h2.HEADERS: "HEADERS",
    h2.RST_STREAM: "RST_STREAM",
    h2.SETTINGS: "SETTINGS",
    h2.PING: "PING",
    h2.GOAWAY: "GOAWAY",
    h2.WINDOW_UPDATE: "WINDOW_UPDATE",
}
REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/t/Echo"),
    (":authority", "picker"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)


class Frame(NamedTuple):
    kind: str
    stream: int
    flags: int
    payload: bytes

    @property
    def ended(self) -> bool:
        return bool(self.flags & h2.END_STREAM) and self.kind in {"DATA", "HEADERS"}


class Hold:
    """Writes down what it hears; the test speaks for it."""

    def __init__(self, call: ServerCall, heard: list[object]) -> None:
        self.call = call
        self.heard = heard

    def on_message(self, data: bytes) -> None:
        self.heard.append(data)

    def on_half_close(self) -> None:
        self.heard.append("half-closed")

    def on_cancel(self) -> None:
        self.heard.append("lost")


class Echo(Hold):
    """Sends every message back and ends with the client."""

    def on_message(self, data: bytes) -> None:
        super().on_message(data)
        self.call.send(data)

    def on_half_close(self) -> None:
        super().on_half_close()
        self.call.finish()


class Once(Hold):
    """Answers the first message and ends."""

    def on_message(self, data: bytes) -> None:
        self.call.send(data)
        self.call.finish()


class Domino(Hold):
    """Ends every other RPC when its own is lost."""

    def __init__(self, call: ServerCall, heard: list[object], calls: list[ServerCall]) -> None:
        super().__init__(call, heard)
        self.calls = calls

    def on_cancel(self) -> None:
        super().on_cancel()
        for call in self.calls:
            call.finish()


class Fails(Hold):
    """Breaks on the first message."""

    def on_message(self, data: bytes) -> None:
        raise RuntimeError("a bug")


class Peer:
    """The client's end of one connection."""

    def __init__(self, limits: TransportLimits) -> None:
        self.heard: list[object] = []
        self.calls: list[ServerCall] = []
        self.wakes = 0
        self.clock = ManualClock()
        self.codes: list[int] = []
        self.streams = RpcStats(lambda name, status, started: self.codes.append(status))
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        methods = {f"/t/{kind.__name__}": self._made(kind) for kind in (Echo, Hold, Once, Fails)}
        methods["/t/Domino"] = self._made(lambda call, heard: Domino(call, heard, self.calls))
        self.server = Connection(methods, self.clock, limits, self.streams, self._wake)

    def _made(self, kind: Callable[[ServerCall, list[object]], Hold]) -> Callable[[ServerCall], Hold]:
        def make(call: ServerCall) -> Hold:
            self.calls.append(call)
            return kind(call, self.heard)

        return make

    def _wake(self) -> None:
        self.wakes += 1

    def hello(self, **settings: int) -> list[Frame]:
        """Preface and SETTINGS; forgets the server's greeting."""
        values = {h2.SETTINGS_INITIAL_WINDOW_SIZE: settings["window"]} if "window" in settings else {}
        return self.send(h2.CONNECTION_PREFACE + h2.encode_settings(values))

    def send(self, data: bytes) -> list[Frame]:
        """Has the server read `data`; returns what it answers."""
        self.server.receive_data(data)
        return self.read()

    def read(self) -> list[Frame]:
        """All that the server has to write now."""
        answer = self.server.data_to_send()
        while self.server.has_data_to_send:
            answer += self.server.data_to_send()
        return frames(answer)

    def headers(self, stream: int = 1, *, flags: int = h2.END_HEADERS, drop: str = "", **fields: str) -> bytes:
        """A HEADERS frame of a request; `fields` replace by name (`path` is `:path`), `drop` leaves one out."""
        return h2.encode_frame(h2.HEADERS, flags, stream, self.block(drop=drop, **fields))

    def block(self, *, drop: str = "", **fields: str) -> bytes:
        replaced = {name.replace("_", "-"): value for name, value in fields.items()}
        request = [(name, replaced.pop(name.lstrip(":"), value)) for name, value in REQUEST if name.lstrip(":") != drop]
        return self.encoder.encode([*request, *replaced.items()])

    def fields(self, frame: Frame) -> dict[str, str]:
        """Decoded header fields of an answer."""
        return dict(self.decoder.decode(frame.payload))


def frames(data: bytes) -> list[Frame]:
    found = []
    while data:
        word, flags, stream = h2.FRAME_HEADER.unpack_from(data)
        length = word >> 8
        kind = NAMES[word & 0xFF]
        if not (kind == "SETTINGS" and not flags):
            found.append(Frame(kind, stream, flags, data[9 : 9 + length]))
        data = data[9 + length :]
    return found


class Wire:
    """Makes peers and reads answers."""

    @staticmethod
    def peer(**limits: float) -> Peer:
        peer = Peer(TransportLimits(**limits))  # type: ignore[arg-type]
        peer.hello()
        return peer

    @staticmethod
    def fresh(**limits: float) -> Peer:
        """A peer that has not greeted yet."""
        return Peer(TransportLimits(**limits))  # type: ignore[arg-type]

    @staticmethod
    def message(data: bytes, flag: int = 0) -> bytes:
        """A gRPC message with its prefix."""
        return bytes([flag]) + len(data).to_bytes(4, "big") + data

    @staticmethod
    def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
        return h2.encode_frame(h2.DATA, flags, stream, payload)

    @staticmethod
    def payload(answer: list[Frame], stream: int = 1) -> bytes:
        """All DATA octets of a stream."""
        return b"".join(frame.payload for frame in answer if frame.kind == "DATA" and frame.stream == stream)

    @staticmethod
    def kinds(answer: list[Frame]) -> list[str]:
        return [frame.kind for frame in answer]

    @staticmethod
    def goaway(answer: list[Frame]) -> h2.ErrorCode:
        """The error code of the GOAWAY that ends the answer."""
        assert answer, "no answer at all"
        assert answer[-1].kind == "GOAWAY", answer
        return h2.ErrorCode(unpack(">II", answer[-1].payload[:8])[1])

    @staticmethod
    def reset(answer: list[Frame], stream: int = 1) -> h2.ErrorCode:
        """The error code of the stream's RST_STREAM."""
        found = [frame for frame in answer if frame.kind == "RST_STREAM" and frame.stream == stream]
        assert len(found) == 1, answer
        return h2.ErrorCode(unpack(">I", found[0].payload)[0])


@pytest.fixture
def wire() -> type[Wire]:
    return Wire
