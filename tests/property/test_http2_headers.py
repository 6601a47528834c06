"""Property test: `HeaderDecoder` with its cache decodes every sequence of header blocks as plain hpack does."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.grpc.http2.frames import Http2ConnectionError
from epp.grpc.http2.headers import HeaderDecoder, parse_request_headers
from epp.grpc.limits import TransportLimits

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
        st.tuples(st.just("repeat"), st.integers(0, 10)),
        st.tuples(st.just("size"), st.sampled_from([0, 60, 120, 200, 4096])),
        st.tuples(st.just("raw"), st.binary(max_size=12)),
    ),
    max_size=25,
)


@given(blocks)
@settings(max_examples=300, deadline=None)
def test_cached_header_blocks_decode_as_hpack_decodes_them(blocks):
    limits = TransportLimits(max_header_list_size=1 << 16)
    cached, reference, encoder = HeaderDecoder(limits), hpack.Decoder(), hpack.Encoder()
    seen: list[bytes] = []
    for kind, value in blocks:
        if kind == "size":
            encoder.header_table_size = value
            continue
        if kind == "repeat":
            # A block sent before: with the dynamic table of now it may decode to other fields, or not at all.
            block = seen[value % len(seen)] if seen else b""
        else:
            block = value if kind == "raw" else encoder.encode(value, huffman=kind == "huffman")
        seen.append(block)
        try:
            expected = reference.decode(block, raw=True)
        except (hpack.HPACKError, IndexError, ValueError):
            with pytest.raises(Http2ConnectionError):
                cached.decode_request(block)
            return
        assert cached.decode_request(block) == parse_request_headers(list(expected), 1 << 16)
        assert list(cached._decoder.header_table.dynamic_entries) == list(reference.header_table.dynamic_entries)
        assert cached._decoder.header_table.maxsize == reference.header_table.maxsize
