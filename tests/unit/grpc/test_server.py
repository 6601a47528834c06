"""How often the native transport writes, and that it does not write to who does not read."""

from __future__ import annotations

import asyncio

import h2.config
import h2.connection
import h2.events

from epp.clock import SystemClock
from epp.grpc.rpc import ServerCall
from epp.grpc.server import GrpcServer, Http2Protocol

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/t/Echo"),
    (":authority", "picker"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
STREAMS = (1, 3, 5, 7)


class Echo:
    def __init__(self, call: ServerCall) -> None:
        self.call = call

    def on_message(self, data: bytes) -> None:
        self.call.send(data)

    def on_half_close(self) -> None:
        self.call.finish()

    def on_cancel(self) -> None:
        pass


class Wire(asyncio.Transport):
    """Keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass


def connected() -> tuple[Http2Protocol, Wire, h2.connection.H2Connection]:
    pump, wire = Http2Protocol(GrpcServer({"/t/Echo": Echo}, SystemClock())), Wire()
    pump.connection_made(wire)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    pump.data_received(client.data_to_send())
    for octets in wire.written:
        client.receive_data(octets)
    wire.written.clear()
    return pump, wire, client


def ask(client: h2.connection.H2Connection, message: bytes) -> None:
    """The same RPC on several streams."""
    for stream in STREAMS:
        client.send_headers(stream, HEADERS)
        client.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)


async def test_all_replies_to_one_read_leave_in_one_write() -> None:
    pump, wire, client = connected()
    ask(client, b"hello")
    pump.data_received(client.data_to_send())
    [octets] = wire.written
    events = client.receive_data(octets)
    assert {event.stream_id for event in events if isinstance(event, h2.events.StreamEnded)} == set(STREAMS)
    pump.connection_lost(None)


async def test_nothing_of_an_answer_is_written_to_a_socket_that_is_full() -> None:
    pump, wire, client = connected()
    pump.pause_writing()
    ask(client, b"hello")
    pump.data_received(client.data_to_send())
    for octets in wire.written:
        events = client.receive_data(octets)
        assert not [event for event in events if isinstance(event, h2.events.DataReceived)]
    pump.resume_writing()
    await asyncio.sleep(0)
    ended = client.receive_data(wire.written[-1])
    assert len([event for event in ended if isinstance(event, h2.events.StreamEnded)]) == len(STREAMS)
    pump.connection_lost(None)
