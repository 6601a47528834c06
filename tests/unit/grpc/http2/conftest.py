"""A client that writes frames by hand, so that it can violate the protocol, and handlers that record their calls."""

from __future__ import annotations

from collections.abc import Callable
from struct import unpack
from typing import NamedTuple

import hpack
import pytest

from epp.clock import ManualClock
from epp.grpc.http2 import frames
from epp.grpc.http2.connection import Connection
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import ServerCall
from epp.grpc.rpc_stats import RpcStats

FRAME_TYPES = {
    frames.DATA: "DATA",
    frames.HEADERS: "HEADERS",
    frames.RST_STREAM: "RST_STREAM",
    frames.SETTINGS: "SETTINGS",
    frames.PING: "PING",
    frames.GOAWAY: "GOAWAY",
    frames.WINDOW_UPDATE: "WINDOW_UPDATE",
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
    type: str
    stream: int
    flags: int
    payload: bytes

    @property
    def ended(self) -> bool:
        return bool(self.flags & frames.END_STREAM) and self.type in {"DATA", "HEADERS"}


class Record:
    """Records its calls; the test responds through `Peer.calls`."""

    def __init__(self, call: ServerCall, events: list[object]) -> None:
        self.call = call
        self.events = events

    def on_message(self, data: bytes) -> None:
        self.events.append(data)

    def on_half_close(self) -> None:
        self.events.append("half-close")

    def on_cancel(self) -> None:
        self.events.append("cancel")


class Echo(Record):
    """Sends every message back, and finishes when the client half-closes."""

    def on_message(self, data: bytes) -> None:
        super().on_message(data)
        self.call.send(data)

    def on_half_close(self) -> None:
        super().on_half_close()
        self.call.finish()


class ReplyOnce(Record):
    """Sends the first message back and finishes."""

    def on_message(self, data: bytes) -> None:
        self.call.send(data)
        self.call.finish()


class FinishOthers(Record):
    """Finishes all RPCs of the peer when its own is cancelled."""

    def __init__(self, call: ServerCall, events: list[object], calls: list[ServerCall]) -> None:
        super().__init__(call, events)
        self.calls = calls

    def on_cancel(self) -> None:
        super().on_cancel()
        for call in self.calls:
            call.finish()


class Fail(Record):
    """Raises on every message."""

    def on_message(self, data: bytes) -> None:
        raise RuntimeError("a bug")


class Peer:
    """The client's side of one connection, and what the handlers of its RPCs recorded."""

    def __init__(self, limits: TransportLimits) -> None:
        self.events: list[object] = []
        self.calls: list[ServerCall] = []
        self.scheduled_flushes = 0
        self.clock = ManualClock()
        self.statuses: list[int] = []
        self.rpc_stats = RpcStats(lambda name, status, started: self.statuses.append(status))
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        methods = {f"/t/{handler.__name__}": self._factory(handler) for handler in (Echo, Record, ReplyOnce, Fail)}
        methods["/t/FinishOthers"] = self._factory(lambda call, events: FinishOthers(call, events, self.calls))
        self.connection = Connection(methods, self.clock, limits, self.rpc_stats, self._count_flush)

    def _factory(self, handler: Callable[[ServerCall, list[object]], Record]) -> Callable[[ServerCall], Record]:
        def create(call: ServerCall) -> Record:
            self.calls.append(call)
            return handler(call, self.events)

        return create

    def _count_flush(self) -> None:
        self.scheduled_flushes += 1

    def send_preface(self, **settings: int) -> list[Frame]:
        """Sends the connection preface; the frames that the server sends in response."""
        values = {frames.SETTINGS_INITIAL_WINDOW_SIZE: settings["window"]} if "window" in settings else {}
        return self.send(frames.CONNECTION_PREFACE + frames.encode_settings(values))

    def send(self, data: bytes) -> list[Frame]:
        """Sends octets to the server; the frames that it writes in response."""
        self.connection.receive_data(data)
        return self.read()

    def read(self) -> list[Frame]:
        """All frames that the server has to write."""
        output = self.connection.data_to_send()
        while self.connection.has_data_to_send:
            output += self.connection.data_to_send()
        return parse_frames(output)

    def headers_frame(
        self, stream: int = 1, *, flags: int = frames.END_HEADERS, drop: str = "", **fields: str
    ) -> bytes:
        """A HEADERS frame of a request. `fields` replace others by name (`path` is `:path`), `drop` omits one."""
        return frames.encode_frame(frames.HEADERS, flags, stream, self.header_block(drop=drop, **fields))

    def header_block(self, *, drop: str = "", **fields: str) -> bytes:
        replaced = {name.replace("_", "-"): value for name, value in fields.items()}
        request = [(name, replaced.pop(name.lstrip(":"), value)) for name, value in REQUEST if name.lstrip(":") != drop]
        return self.encoder.encode([*request, *replaced.items()])

    def decode_fields(self, frame: Frame) -> dict[str, str]:
        """Decoded header fields of a HEADERS frame."""
        return dict(self.decoder.decode(frame.payload))


def parse_frames(data: bytes) -> list[Frame]:
    found = []
    while data:
        word, flags, stream = frames.FRAME_HEADER.unpack_from(data)
        length = word >> 8
        type_ = FRAME_TYPES[word & 0xFF]
        if type_ != "SETTINGS" or flags:  # the server's own settings are not of interest
            found.append(Frame(type_, stream, flags, data[9 : 9 + length]))
        data = data[9 + length :]
    return found


class Http2:
    """Creates peers, builds frames, and reads frames."""

    @staticmethod
    def connect(**limits: float) -> Peer:
        """A peer after its preface."""
        peer = Peer(TransportLimits(**limits))  # type: ignore[arg-type]
        peer.send_preface()
        return peer

    @staticmethod
    def create_peer(**limits: float) -> Peer:
        """A peer that has not sent its preface yet."""
        return Peer(TransportLimits(**limits))  # type: ignore[arg-type]

    @staticmethod
    def grpc_message(data: bytes, flag: int = 0) -> bytes:
        """A gRPC message with its prefix."""
        return bytes([flag]) + len(data).to_bytes(4, "big") + data

    @staticmethod
    def data_frame(stream: int, payload: bytes, flags: int = 0) -> bytes:
        return frames.encode_frame(frames.DATA, flags, stream, payload)

    @staticmethod
    def stream_data(output: list[Frame], stream: int = 1) -> bytes:
        """All DATA octets of a stream."""
        return b"".join(frame.payload for frame in output if frame.type == "DATA" and frame.stream == stream)

    @staticmethod
    def types(output: list[Frame]) -> list[str]:
        return [frame.type for frame in output]

    @staticmethod
    def goaway_code(output: list[Frame]) -> frames.ErrorCode:
        """The error code of the GOAWAY at the end of the output."""
        assert output, "no output"
        assert output[-1].type == "GOAWAY", output
        return frames.ErrorCode(unpack(">II", output[-1].payload[:8])[1])

    @staticmethod
    def reset_code(output: list[Frame], stream: int = 1) -> frames.ErrorCode:
        """The error code of the stream's RST_STREAM."""
        found = [frame for frame in output if frame.type == "RST_STREAM" and frame.stream == stream]
        assert len(found) == 1, output
        return frames.ErrorCode(unpack(">I", found[0].payload)[0])


@pytest.fixture
def http2() -> type[Http2]:
    return Http2
