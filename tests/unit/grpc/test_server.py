"""`Http2Protocol`: number of writes to the socket, and back-pressure."""

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


class RecordingTransport(asyncio.Transport):
    """Records each write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass


def connect() -> tuple[Http2Protocol, RecordingTransport, h2.connection.H2Connection]:
    protocol, transport = Http2Protocol(GrpcServer({"/t/Echo": Echo}, SystemClock())), RecordingTransport()
    protocol.connection_made(transport)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    protocol.data_received(client.data_to_send())
    for octets in transport.written:
        client.receive_data(octets)
    transport.written.clear()
    return protocol, transport, client


def send_requests(client: h2.connection.H2Connection, message: bytes) -> None:
    """Sends the same request on all STREAMS."""
    for stream in STREAMS:
        client.send_headers(stream, HEADERS)
        client.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)


async def test_all_responses_to_one_read_are_one_write() -> None:
    protocol, transport, client = connect()
    send_requests(client, b"hello")
    protocol.data_received(client.data_to_send())
    [octets] = transport.written
    events = client.receive_data(octets)
    assert {event.stream_id for event in events if isinstance(event, h2.events.StreamEnded)} == set(STREAMS)
    protocol.connection_lost(None)


async def test_no_data_is_written_while_the_socket_is_full() -> None:
    protocol, transport, client = connect()
    protocol.pause_writing()
    send_requests(client, b"hello")
    protocol.data_received(client.data_to_send())
    for octets in transport.written:
        events = client.receive_data(octets)
        assert not [event for event in events if isinstance(event, h2.events.DataReceived)]
    protocol.resume_writing()
    await asyncio.sleep(0)
    ended = client.receive_data(transport.written[-1])
    assert len([event for event in ended if isinstance(event, h2.events.StreamEnded)]) == len(STREAMS)
    protocol.connection_lost(None)
