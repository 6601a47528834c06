"""RPCs as gRPC clients make them."""

from __future__ import annotations

import gzip
import zlib

import pytest

from epp.grpc.http2 import frames as h2
from epp.grpc.http2.frames import ErrorCode


def test_a_bidirectional_rpc(wire):
    peer = wire.peer()
    answer = peer.send(peer.headers() + wire.data(1, wire.message(b"one")))
    assert wire.kinds(answer) == ["HEADERS", "DATA"]
    assert peer.fields(answer[0]) == {":status": "200", "content-type": "application/grpc"}
    assert answer[1].payload == wire.message(b"one")
    answer = peer.send(wire.data(1, wire.message(b"two"), h2.END_STREAM))
    assert wire.kinds(answer) == ["DATA", "HEADERS"]
    assert peer.fields(answer[1]) == {"grpc-status": "0"}
    assert answer[1].ended
    assert peer.heard == [b"one", b"two", "half-closed"]
    assert (peer.streams.open_rpcs, peer.codes) == (0, [0])


def test_messages_do_not_care_about_frames(wire):
    peer = wire.peer()
    stream = wire.message(b"") + wire.message(b"x" * 10) + wire.message(b"y" * 300)
    answer = peer.send(peer.headers() + b"".join(wire.data(1, stream[i : i + 1]) for i in range(len(stream))))
    assert peer.heard == [b"", b"x" * 10, b"y" * 300]
    assert wire.payload(answer) == stream


def test_an_end_before_the_client_has_ended_tells_it_to_stop(wire):
    peer = wire.peer()
    peer.send(peer.headers(path="/t/Hold"))
    peer.calls[0].send(b"enough")
    peer.calls[0].finish()
    assert peer.wakes == 1
    answer = peer.read()
    assert wire.kinds(answer) == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]
    assert wire.reset(answer) is ErrorCode.NO_ERROR
    assert wire.kinds(peer.send(wire.data(1, wire.message(b"was on its way")))) == []
    assert peer.heard == []


def test_nobody_who_has_ended_is_told_to_stop(wire):
    peer = wire.peer()
    whole = wire.message(b"!")
    answer = peer.send(peer.headers(path="/t/Once") + wire.data(1, whole, h2.END_STREAM))
    assert wire.kinds(answer) == ["HEADERS", "DATA", "HEADERS"]
    answer = peer.send(peer.headers(3, path="/t/Once") + wire.data(3, whole))
    assert wire.kinds(answer) == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]


def test_an_end_without_a_message_is_one_header_block(wire):
    peer = wire.peer()
    peer.send(peer.headers(path="/t/Hold", flags=h2.END_HEADERS | h2.END_STREAM))
    peer.calls[0].finish(5, "nö: 100 %\n")
    (answer,) = peer.read()
    assert peer.fields(answer) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "5",
        "grpc-message": "n%C3%B6: 100 %25%0A",
    }
    assert answer.ended


def test_what_is_sent_after_the_end_is_dropped(wire):
    peer = wire.peer()
    peer.send(peer.headers(path="/t/Hold"))
    peer.calls[0].finish()
    peer.calls[0].finish(13)
    peer.calls[0].send(b"late")
    assert wire.kinds(peer.read()) == ["HEADERS", "RST_STREAM"]
    assert peer.codes == [0]


def test_a_reset_is_a_loss(wire):
    peer = wire.peer()
    peer.send(peer.headers(path="/t/Hold"))
    assert peer.send(h2.encode_rst_stream(1, ErrorCode.CANCEL)) == []
    peer.calls[0].send(b"nobody listens")
    assert peer.read() == []
    assert peer.heard == ["lost"]
    assert peer.codes == [1]


def test_a_lost_connection_is_a_loss_of_every_rpc(wire):
    peer = wire.peer()
    peer.send(peer.headers(1, path="/t/Hold") + peer.headers(3, path="/t/Hold"))
    peer.server.connection_lost()
    assert peer.heard == ["lost", "lost"]
    assert peer.streams.open_rpcs == 0


def test_losses_that_end_other_rpcs(wire):
    peer = wire.peer()
    peer.send(b"".join(peer.headers(stream, path="/t/Domino") for stream in (1, 3, 5)))
    peer.server.connection_lost()
    assert peer.heard == ["lost"]
    assert (peer.streams.open_rpcs, sorted(peer.codes)) == (0, [0, 0, 1])


def test_ends_are_reported_with_their_beginning(wire):
    ended = []
    peer = wire.peer()
    peer.streams._on_rpc_end = lambda *end: ended.append(end)
    started = peer.clock.now()
    peer.send(peer.headers(path="/t/Hold"))
    peer.clock.advance(2)
    peer.calls[0].finish(4)
    assert ended == [("/t/Hold", 4, started)]


def test_a_failing_handler_is_an_internal_error_of_its_rpc_only(wire, caplog):
    peer = wire.peer()
    answer = peer.send(peer.headers(path="/t/Fails") + wire.data(1, wire.message(b"x")))
    assert peer.fields(answer[0])["grpc-status"] == "13"
    assert peer.heard == ["lost"]
    assert "handler of /t/Fails failed" in caplog.text
    answer = peer.send(peer.headers(3) + wire.data(3, wire.message(b"x")))
    assert wire.kinds(answer) == ["HEADERS", "DATA"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"path": "/t/None"}, {":status": "200", "grpc-status": "12"}),
        ({"grpc_encoding": "br"}, {":status": "200", "grpc-status": "12", "grpc-accept-encoding": "identity,gzip"}),
        ({"content_type": "application/json"}, {":status": "415"}),
        ({"content_type": "application/grpc-web"}, {":status": "415"}),
        ({"drop": "content-type"}, {":status": "415"}),
        ({"method": "GET"}, {":status": "405", "allow": "POST"}),
    ],
)
def test_requests_that_need_no_handler(wire, fields, expected):
    peer = wire.peer()
    answer = peer.send(peer.headers(**fields))
    assert wire.kinds(answer) == ["HEADERS", "RST_STREAM"]
    assert answer[0].ended
    assert expected.items() <= peer.fields(answer[0]).items()
    assert peer.calls == []


@pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc;charset=utf-8", "Application/gRPC"])
def test_spellings_of_the_content_type(wire, kind):
    peer = wire.peer()
    assert wire.kinds(peer.send(peer.headers(content_type=kind) + wire.data(1, wire.message(b"x")))) == [
        "HEADERS",
        "DATA",
    ]


def test_gzip_messages(wire):
    peer = wire.peer()
    packed = wire.message(gzip.compress(b"x" * 1000), flag=1)
    plain = wire.message(b"as it is")
    peer.send(peer.headers(path="/t/Hold", grpc_encoding="gzip") + wire.data(1, packed[:20]))
    peer.send(wire.data(1, packed[20:] + plain + packed, h2.END_STREAM))
    assert peer.heard == [b"x" * 1000, b"as it is", b"x" * 1000, "half-closed"]


def bomb() -> bytes:
    return gzip.compress(bytes(5 << 20))


@pytest.mark.parametrize(
    ("encoding", "flag", "content", "status"),
    [
        ("gzip", 1, bomb(), "8"),
        ("gzip", 1, b"not gzip", "13"),
        ("gzip", 1, gzip.compress(b"x")[:-1], "13"),
        ("gzip", 1, gzip.compress(b"x") * 2, "13"),
        ("gzip", 1, zlib.compress(b"x"), "13"),
        ("gzip", 2, b"x", "13"),
        ("identity", 1, gzip.compress(b"x"), "13"),
        ("identity", 0, bytes(5 << 20), "8"),
    ],
)
@pytest.mark.parametrize("cut", [3, 7, 1 << 16])
def test_messages_that_end_their_rpc(wire, encoding, flag, content, status, cut):
    peer = wire.peer(max_frame_size=16 << 20, stream_window=16 << 20)
    message = wire.message(content, flag)
    peer.send(peer.headers(path="/t/Hold", grpc_encoding=encoding))
    answer = peer.send(wire.data(1, message[:cut])) + peer.send(wire.data(1, message[cut:]))
    assert wire.kinds(answer) == ["HEADERS", "RST_STREAM"]
    assert peer.fields(answer[0])["grpc-status"] == status
    assert peer.heard == ["lost"]
    assert not peer.server.closing


def test_a_request_that_ends_within_a_message(wire):
    peer = wire.peer()
    answer = peer.send(peer.headers(path="/t/Hold") + wire.data(1, wire.message(b"cut")[:6], h2.END_STREAM))
    assert peer.fields(answer[0])["grpc-status"] == "13"
    assert peer.heard == ["lost"]


def test_trailers_of_the_client_half_close(wire):
    peer = wire.peer()
    peer.send(peer.headers(path="/t/Hold"))
    trailers = peer.encoder.encode([("x-checksum", "1")])
    peer.send(h2.encode_frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, trailers))
    assert peer.heard == ["half-closed"]


def test_output_outside_a_read_wakes_the_pump_once(wire):
    peer = wire.peer()
    peer.send(peer.headers(path="/t/Hold"))
    peer.calls[0].send(b"1")
    peer.calls[0].send(b"2")
    assert peer.wakes == 1
    assert wire.payload(peer.read()) == wire.message(b"1") + wire.message(b"2")
    peer.calls[0].send(b"3")
    assert peer.wakes == 2


def test_headers_in_fragments_with_padding_and_priority(wire):
    peer = wire.peer()
    block = peer.block(path="/t/Hold")
    first = b"\x03" + b"\x80\0\0\0\x10" + block[:5] + b"pad"
    flags = h2.PADDED | h2.PRIORITY_FLAG
    peer.send(h2.encode_frame(h2.HEADERS, flags, 1, first) + h2.encode_frame(h2.CONTINUATION, 0, 1, block[5:9]))
    assert peer.calls == []
    peer.send(h2.encode_frame(h2.CONTINUATION, h2.END_HEADERS, 1, block[9:]))
    padded = b"\x04" + wire.message(b"x") + b"\0\0\0\0"
    peer.send(h2.encode_frame(h2.DATA, h2.PADDED | h2.END_STREAM, 1, padded))
    assert peer.heard == [b"x", "half-closed"]
