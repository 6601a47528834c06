"""Protobuf's wire format, as far as it is read without protobuf: lengths, and the phase of a message."""

from __future__ import annotations

import pytest

from epp.extproc.codec.wire import BODY_END_OF_STREAM, field_bounds, parse_phase
from epp.pb import ext_proc_pb2


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_bounds_of_a_field_of_any_length(size: int) -> None:
    field = ext_proc_pb2.HttpBody(body=bytes(size)).SerializeToString() or b"\x0a\x00"
    start, stop = field_bounds(b"??" + field, 2)
    assert (stop - start, stop) == (size, 2 + len(field))


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x80", b"\x0a\xff\xff", b"\x0a\xff\xff\xff\xff\xff\x01"])
def test_a_length_that_is_cut_off_or_too_long_raises_index_error(data: bytes) -> None:
    with pytest.raises(IndexError):
        field_bounds(data, 0)


@pytest.mark.parametrize(
    ("data", "phase"),
    [
        (b"\x2a\x00", (b"", False, 2)),
        (b"\x2a\x02\x10\x01", (b"", True, 4)),
        (b"\x2a\x04\x0a\x02hi", (b"hi", False, 6)),
        (b"\x2a\x06\x0a\x02hi\x10\x01!", (b"hi", True, 8)),
        (b"\x2a\x06\x10\x01\x0a\x02hi", None),  # protobuf allows any order; Envoy writes the body first
        (b"\x2a\x06\x0a\x02hi\x10\x00", None),
        (b"\x2a\x08\x0a\x02hi\x10\x01\x18\x01", None),
    ],
)
def test_the_phase_is_parsed_in_the_form_that_envoy_writes_only(
    data: bytes, phase: tuple[bytes, bool, int] | None
) -> None:
    assert parse_phase(data, BODY_END_OF_STREAM) == phase


def test_a_length_of_five_bytes_may_reach_beyond_the_data() -> None:
    assert field_bounds(b"\x0a\x80\x80\x80\x80\x01", 0) == (6, 6 + (1 << 28))
