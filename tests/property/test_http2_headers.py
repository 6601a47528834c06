"""The reader of header blocks beside hpack, for all blocks that Hypothesis finds."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.grpc.http2.frames import Http2ConnectionError
from epp.grpc.http2.headers import HeaderDecoder, parse_request_headers

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/t/Echo"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


fields = st.builds(
    lambda path, encoding, more: [*REQUEST[:2], (":path", path), REQUEST[-1], ("grpc-encoding", encoding), *more],
    st.sampled_from(["/t/Echo", "/t/Hold", "/t/" + "v" * 70]),
    st.sampled_from(["gzip", "identity", "br"]),
    st.lists(st.tuples(st.sampled_from(["te", "x-a", "x-b"]), st.sampled_from(["trailers", "1"])), max_size=2),
)
blocks = st.lists(
    st.one_of(
        st.tuples(st.just("fields"), fields),
        st.tuples(st.just("huffman"), fields),
        st.tuples(st.just("again"), st.integers(0, 10)),
        st.tuples(st.just("size"), st.sampled_from([0, 60, 120, 200, 4096])),
        st.tuples(st.just("raw"), st.binary(max_size=12)),
    ),
    max_size=25,
)


@given(blocks)
@settings(max_examples=300, deadline=None)
def test_remembered_header_blocks_are_what_hpack_would_say(blocks):
    reader, plain, encoder = HeaderDecoder(1 << 16), hpack.Decoder(), hpack.Encoder()
    seen: list[bytes] = []
    for kind, value in blocks:
        if kind == "size":
            encoder.header_table_size = value
            continue
        if kind == "again":
            # Old blocks as they are: they may mean something else by now, or nothing.
            block = seen[value % len(seen)] if seen else b""
        else:
            block = value if kind == "raw" else encoder.encode(value, huffman=kind == "huffman")
        seen.append(block)
        try:
            expected = plain.decode(block, raw=True)
        except (hpack.HPACKError, IndexError, ValueError):
            with pytest.raises(Http2ConnectionError):
                reader.decode_request(block)
            return
        assert reader.decode_request(block) == parse_request_headers(list(expected), 1 << 16)
        assert list(reader._decoder.header_table.dynamic_entries) == list(plain.header_table.dynamic_entries)
        assert reader._decoder.header_table.maxsize == plain.header_table.maxsize
