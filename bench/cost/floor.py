"""The least that a picker can do: constant answers, from a thread that sleeps in `recv` until Envoy has something.

python -m bench.cost.floor --port 9002 --target 127.0.1.1:8000 [--close]

It reads no headers and no body, keeps nothing, scrapes nobody and always names the same endpoint: what it adds to a
request is what Envoy, the kernel and being woken up cost, and no picker can add less. Good for one client that sends
requests which fit into Envoy's first windows. `--close` ends the stream after the request phase.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading

from epp.extproc import codec
from epp.extproc.codec import Kind
from epp.grpc.framing import RESPONSE, TRAILERS_OK
from epp.grpc.http2 import frames as h2
from epp.grpc.http2.stream import DATA_WITH_PREFIX, PREFIX_SIZE

GREETING = h2.settings({h2.SETTING_WINDOW: h2.MAX_WINDOW, h2.SETTING_FRAME: 1 << 20}) + h2.window_update(0, 1 << 30)
GRANTED = 1 << 24
READ = 256 << 10
REQUEST_BODY, RESPONSE_HEADERS, RESPONSE_BODY = (
    kind << 3 | 2 for kind in (Kind.REQUEST_BODY, Kind.RESPONSE_HEADERS, Kind.RESPONSE_BODY)
)


class Floor:
    """One connection. Messages may come in several frames, bodies in several messages."""

    def __init__(self, target: str, close: bool) -> None:
        self._choice = codec.chosen_at_headers(target, codec.PLAIN, None)
        self._close = close
        self._rest = b""
        self._partial: dict[int, bytes] = {}
        self._bodies: dict[int, bytes] = {}
        self._credit = 0
        self._out: list[bytes] = []

    def receive(self, data: bytes) -> bytes:
        """What to write for what was read; the client's preface has been taken off."""
        buffer, at = self._rest + data, 0
        while len(buffer) - at >= h2.HEAD_SIZE:
            word, flags, stream = h2.FRAME.unpack_from(buffer, at)
            stop = at + h2.HEAD_SIZE + (word >> 8)
            if stop > len(buffer):
                break
            self._frame(word & 0xFF, flags, stream, buffer[at + h2.HEAD_SIZE : stop])
            at = stop
        self._rest = buffer[at:]
        written, self._out = b"".join(self._out), []
        return written

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == h2.DATA:
            self._data(stream, self._partial.pop(stream, b"") + payload)
            self._replenish(len(payload))
        elif kind == h2.HEADERS:
            self._out.append(h2.frame(h2.HEADERS, h2.END_HEADERS, stream, RESPONSE))
        elif kind in (h2.SETTINGS, h2.PING) and not flags & h2.ACK:
            self._out.append(h2.frame(kind, h2.ACK, 0, payload if kind == h2.PING else b""))
        elif kind == h2.RST_STREAM:
            self._partial.pop(stream, None)
            self._bodies.pop(stream, None)

    def _data(self, stream: int, data: bytes) -> None:
        while len(data) >= PREFIX_SIZE:
            stop = PREFIX_SIZE + int.from_bytes(data[1:PREFIX_SIZE], "big")
            if stop > len(data):
                break
            self._message(stream, data[PREFIX_SIZE:stop])
            data = data[stop:]
        if data:
            self._partial[stream] = data

    def _message(self, stream: int, data: bytes) -> None:
        tag = data[0]
        if tag == REQUEST_BODY:
            message = codec.decode(data)
            body = self._bodies.pop(stream, b"") + message.body
            if message.end:
                self._send(stream, self._choice, codec.request_piece(body, True))
                self._end(stream)
            else:
                self._bodies[stream] = body
        elif tag == RESPONSE_HEADERS:
            self._send(stream, codec.CONTINUE_RESPONSE_HEADERS)
        elif tag == RESPONSE_BODY:
            message = codec.decode(data)
            self._send(stream, codec.response_piece(message.body, message.end))

    def _send(self, stream: int, *replies: bytes) -> None:
        for reply in replies:
            size = len(reply) + PREFIX_SIZE
            self._out += (DATA_WITH_PREFIX.pack(size << 8 | h2.DATA, 0, stream, 0, len(reply)), reply)

    def _end(self, stream: int) -> None:
        if self._close:
            self._out.append(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, TRAILERS_OK))
            self._out.append(h2.reset(stream, h2.Code.NO_ERROR))

    def _replenish(self, size: int) -> None:
        self._credit += size
        if self._credit > GRANTED:
            self._out.append(h2.window_update(0, self._credit))
            self._credit = 0


def serve(connection: socket.socket, target: str, close: bool) -> None:
    """Until the client leaves."""
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(GREETING)
        floor, greeted = Floor(target, close), b""
        while data := connection.recv(READ):
            if len(greeted) < len(h2.PREFACE):
                greeted += data
                data = greeted[len(h2.PREFACE) :]
            if written := floor.receive(data):
                connection.sendall(written)


def main() -> int:
    """The command; serves until it is killed."""
    parser = argparse.ArgumentParser(description="A picker that does nothing.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--close", action="store_true", help="end the stream after the request phase")
    args = parser.parse_args()
    with socket.create_server(("127.0.0.1", args.port)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, args.target, args.close), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
