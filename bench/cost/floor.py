"""The floor: a picker that does the minimum, to compare with. Constant replies, from a thread that blocks in `recv`.

python -m bench.cost.floor --port 9002 --target 127.0.1.1:8000 [--close]

It reads no headers and no body, keeps no state, scrapes nothing and always picks the same endpoint: it adds to a
request what Envoy, the kernel and the wake-ups cost, and no picker can add less. It supports one client whose requests
fit into the initial windows. `--close` ends the stream after the request phase.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading

from epp.extproc.codec import Codec, MessageType, encode
from epp.grpc.framing import OK_TRAILERS_BLOCK, RESPONSE_HEADERS_BLOCK
from epp.grpc.http2 import frames
from epp.grpc.http2.stream import DATA_FRAME_WITH_PREFIX, MESSAGE_PREFIX_SIZE

SERVER_PREFACE = frames.encode_settings(
    {frames.SETTINGS_INITIAL_WINDOW_SIZE: frames.MAX_WINDOW_SIZE, frames.SETTINGS_MAX_FRAME_SIZE: 1 << 20}
) + frames.encode_window_update(0, 1 << 30)
WINDOW_UPDATE_THRESHOLD = 1 << 24
READ_SIZE = 256 << 10
# The first octet of a ProcessingRequest: the protobuf tag of its oneof, a length-delimited field.
REQUEST_BODY, RESPONSE_HEADERS, RESPONSE_BODY = (
    kind << 3 | 2 for kind in (MessageType.REQUEST_BODY, MessageType.RESPONSE_HEADERS, MessageType.RESPONSE_BODY)
)


class FloorPicker:
    """One connection. A message may span several DATA frames, and a body several messages."""

    def __init__(self, target: str, close: bool) -> None:
        self._routing_reply = encode.route_in_headers(target)
        self._closes_streams = close
        self._codec = Codec()
        self._unparsed = b""
        self._partial: dict[int, bytes] = {}
        self._bodies: dict[int, bytes] = {}
        self._unacknowledged = 0
        self._out: list[bytes] = []

    def receive_data(self, data: bytes) -> bytes:
        """Octets to write in response to octets read; the connection preface has been removed."""
        buffer, pos = self._unparsed + data, 0
        while len(buffer) - pos >= frames.FRAME_HEADER_SIZE:
            word, flags, stream = frames.FRAME_HEADER.unpack_from(buffer, pos)
            stop = pos + frames.FRAME_HEADER_SIZE + (word >> 8)
            if stop > len(buffer):
                break
            self._handle_frame(word & 0xFF, flags, stream, buffer[pos + frames.FRAME_HEADER_SIZE : stop])
            pos = stop
        self._unparsed = buffer[pos:]
        output, self._out = b"".join(self._out), []
        return output

    def _handle_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.DATA:
            self._handle_data(stream, self._partial.pop(stream, b"") + payload)
            self._replenish_window(len(payload))
        elif kind == frames.HEADERS:
            self._out.append(frames.encode_frame(frames.HEADERS, frames.END_HEADERS, stream, RESPONSE_HEADERS_BLOCK))
        elif kind in (frames.SETTINGS, frames.PING) and not flags & frames.ACK:
            self._out.append(frames.encode_frame(kind, frames.ACK, 0, payload if kind == frames.PING else b""))
        elif kind == frames.RST_STREAM:
            self._partial.pop(stream, None)
            self._bodies.pop(stream, None)

    def _handle_data(self, stream: int, data: bytes) -> None:
        while len(data) >= MESSAGE_PREFIX_SIZE:
            stop = MESSAGE_PREFIX_SIZE + int.from_bytes(data[1:MESSAGE_PREFIX_SIZE], "big")
            if stop > len(data):
                break
            self._handle_message(stream, data[MESSAGE_PREFIX_SIZE:stop])
            data = data[stop:]
        if data:
            self._partial[stream] = data

    def _handle_message(self, stream: int, data: bytes) -> None:
        tag = data[0]
        if tag == REQUEST_BODY:
            message = self._codec.decode(data)
            body = self._bodies.pop(stream, b"") + message.body
            if message.end_of_stream:
                self._send_messages(stream, self._routing_reply, self._codec.request_body_chunk(body, True))
                if self._closes_streams:
                    self._end_stream(stream)
            else:
                self._bodies[stream] = body
        elif tag == RESPONSE_HEADERS:
            self._send_messages(stream, encode.CONTINUE_RESPONSE_HEADERS)
        elif tag == RESPONSE_BODY:
            message = self._codec.decode(data)
            self._send_messages(stream, self._codec.response_body_chunk(message.body, message.end_of_stream))

    def _send_messages(self, stream: int, *replies: bytes) -> None:
        for reply in replies:
            size = len(reply) + MESSAGE_PREFIX_SIZE
            self._out += (DATA_FRAME_WITH_PREFIX.pack(size << 8 | frames.DATA, 0, stream, 0, len(reply)), reply)

    def _end_stream(self, stream: int) -> None:
        self._out.append(
            frames.encode_frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, OK_TRAILERS_BLOCK)
        )
        self._out.append(frames.encode_rst_stream(stream, frames.ErrorCode.NO_ERROR))

    def _replenish_window(self, size: int) -> None:
        self._unacknowledged += size
        if self._unacknowledged > WINDOW_UPDATE_THRESHOLD:
            self._out.append(frames.encode_window_update(0, self._unacknowledged))
            self._unacknowledged = 0


def serve_connection(connection: socket.socket, target: str, close: bool) -> None:
    """Serves one connection until the client closes it."""
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(SERVER_PREFACE)
        floor, preface = FloorPicker(target, close), b""
        while data := connection.recv(READ_SIZE):
            if len(preface) < len(frames.CONNECTION_PREFACE):
                preface += data
                data = preface[len(frames.CONNECTION_PREFACE) :]
            if output := floor.receive_data(data):
                connection.sendall(output)


def main() -> int:
    """The command; serves until killed."""
    parser = argparse.ArgumentParser(description="A picker that does the minimum.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--close", action="store_true", help="end the stream after the request phase")
    args = parser.parse_args()
    with socket.create_server(("127.0.0.1", args.port)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_connection, args=(connection, args.target, args.close), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
