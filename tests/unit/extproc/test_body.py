"""Bodies gathered up to a limit and cut again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.extproc.body import MAX_CHUNK_BYTES, BodyBuffer, split_into_chunks


def test_a_body_in_pieces_is_whole_again():
    body = BodyBuffer(limit=10)
    assert [body.append(piece) for piece in (b"ab", b"", b"cde")] == [True, True, True]
    assert body.size == 5
    assert body.drain() == b"abcde"


def test_a_body_in_one_piece_is_not_copied():
    piece = bytes(100)
    body = BodyBuffer(limit=100)
    assert body.append(piece)
    assert body.drain() is piece


def test_a_body_that_was_taken_is_let_go():
    body = BodyBuffer(limit=10)
    body.append(b"abc")
    body.drain()
    assert body.drain() == b""


def test_past_its_limit_a_body_keeps_nothing():
    body = BodyBuffer(limit=4)
    assert body.append(b"abcd")
    assert not body.append(b"e")
    assert not body.append(b"f")
    assert body.drain() == b""


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (0, [0]),
        (1, [1]),
        (MAX_CHUNK_BYTES, [MAX_CHUNK_BYTES]),
        (MAX_CHUNK_BYTES + 1, [MAX_CHUNK_BYTES, 1]),
        (3 * MAX_CHUNK_BYTES, [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES]),
    ],
)
def test_pieces_are_as_long_as_they_may_be(size: int, sizes: list[int]):
    pieces = list(split_into_chunks(bytes(size)))
    assert [len(piece) for piece, _ in pieces] == sizes
    assert [last for _, last in pieces] == [False] * (len(sizes) - 1) + [True]


@given(st.binary(min_size=1, max_size=50), st.integers(min_value=1, max_value=10_000))
def test_no_byte_is_lost_or_moved(unit: bytes, times: int):
    body = unit * times
    assert b"".join(piece for piece, _ in split_into_chunks(body)) == body
