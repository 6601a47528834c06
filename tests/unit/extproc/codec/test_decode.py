"""What Envoy sends, in every form that protobuf allows, as protobuf itself reads it."""

from __future__ import annotations

import pytest

from epp.errors import DecodeError
from epp.extproc.codec import Codec, MessageType
from epp.extproc.codec.decode import count_header_bytes, parse_served_endpoint, parse_subset_hint
from epp.headers import DESTINATION_ENDPOINT, DESTINATION_ENDPOINT_SUBSET, SUBSET_HINT_NAMESPACE
from epp.pb import ext_proc_pb2
from epp.pb.core_pb2 import HeaderValue, Metadata
from tests.unit.extproc.codec.conftest import POD

CODEC = Codec()


def test_unusual_field_order_is_decoded():
    """Protobuf allows fields in any order, repeated, and unknown ones."""
    assert CODEC.decode(b"\x2a\x07\x10\x01\x0a\x01x\x20\x01").body == b"x"
    assert CODEC.decode(b"\x2a\x07\x10\x01\x0a\x01x\x20\x01").end_of_stream
    assert CODEC.decode(b"\x50\x00\x2a\x03\x0a\x01x").body == b"x"
    assert CODEC.decode(b"\x2a\x03\x0a\x01x\x2a\x03\x0a\x01y").body == b"y"
    assert CODEC.decode(b"\x2a\x03\x0a\x01x\x22\x03\x0a\x01y").type is MessageType.REQUEST_BODY
    assert CODEC.decode(b"\x2a\x04\x10\x01\x10\x00").end_of_stream is False


@pytest.mark.parametrize(
    "data", [b"", b"\x50\x01", b"\xff", b"\x2a", b"\x2a\x05\x0a\x01x", b"\x2a\x03\x0a\x02x", b"\x2a\xff"]
)
def test_malformed_message_is_a_decode_error(data):
    with pytest.raises(DecodeError):
        CODEC.decode(data)


def test_headers_are_lower_case_joined_and_read_from_raw_value():
    message = ext_proc_pb2.ProcessingRequest()
    pairs = [
        HeaderValue(key="A", value="text"),
        HeaderValue(key="b", value="text", raw_value=b"raw"),
        HeaderValue(key="a", raw_value=b"\xff"),
        HeaderValue(key="cookie", raw_value=b"c=1"),
        HeaderValue(key="cookie", raw_value=b"d=2"),
        HeaderValue(key="empty"),
    ]
    message.request_headers.headers.headers.extend(pairs)
    message.request_headers.end_of_stream = True
    found = CODEC.decode(message.SerializeToString())
    assert found.headers == {"a": "text, \udcff", "b": "raw", "cookie": "c=1; d=2", "empty": ""}
    assert found.end_of_stream


def test_served_endpoint_of_another_type_is_ignored():
    message = ext_proc_pb2.ProcessingRequest()
    message.response_headers.end_of_stream = True
    entries = message.metadata_context.filter_metadata["envoy.lb"]
    entries.update({DESTINATION_ENDPOINT: POD})
    assert parse_served_endpoint(message.metadata_context) == ""
    entries.update({f"{DESTINATION_ENDPOINT}-served": POD})
    assert parse_served_endpoint(message.metadata_context) == POD
    entries.update({f"{DESTINATION_ENDPOINT}-served": 7})
    assert parse_served_endpoint(message.metadata_context) == ""


@pytest.mark.parametrize(
    ("hint", "endpoints"),
    [
        ("10.0.0.1:8000, 10.0.0.2", ("10.0.0.1:8000", "10.0.0.2")),
        (["10.0.0.1:8000", "10.0.0.2,10.0.0.3"], ("10.0.0.1:8000", "10.0.0.2", "10.0.0.3")),
        ("", ()),
        ([7], ()),
        (7, ()),
        (None, None),
    ],
)
def test_a_subset_hint_of_every_form(hint, endpoints):
    metadata = Metadata()
    metadata.filter_metadata[SUBSET_HINT_NAMESPACE].update({DESTINATION_ENDPOINT_SUBSET: hint})
    assert parse_subset_hint(metadata) == endpoints


def test_metadata_without_a_subset_hint_restricts_nothing():
    metadata = Metadata()
    assert parse_subset_hint(metadata) is None
    metadata.filter_metadata[SUBSET_HINT_NAMESPACE].update({"other": "10.0.0.1"})
    assert parse_subset_hint(metadata) is None


def test_header_bytes_are_those_received():
    assert count_header_bytes({"a": "\udcff", "bc": "é"}) == 1 + 1 + 2 + 2
