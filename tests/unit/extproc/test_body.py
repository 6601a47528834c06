"""Bodies buffered up to a limit, and split into chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.extproc.body import MAX_CHUNK_BYTES, BodyBuffer, split_into_chunks


def test_buffer_joins_chunks():
    body = BodyBuffer(limit=10)
    assert [body.append(chunk) for chunk in (b"ab", b"", b"cde")] == [True, True, True]
    assert body.size == 5
    assert body.drain() == b"abcde"


def test_a_body_of_one_chunk_is_not_copied():
    chunk = bytes(100)
    body = BodyBuffer(limit=100)
    assert body.append(chunk)
    assert body.drain() is chunk


def test_drain_releases_the_body():
    body = BodyBuffer(limit=10)
    body.append(b"abc")
    body.drain()
    assert body.drain() == b""


def test_clear_drops_the_body():
    body = BodyBuffer(limit=10)
    body.append(b"abc")
    body.clear()
    assert body.drain() == b""


def test_above_its_limit_the_buffer_keeps_nothing():
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
def test_chunks_are_as_long_as_allowed(size: int, sizes: list[int]):
    chunks = list(split_into_chunks(bytes(size)))
    assert [len(chunk) for chunk, _ in chunks] == sizes
    assert [last for _, last in chunks] == [False] * (len(sizes) - 1) + [True]


@given(st.binary(min_size=1, max_size=50), st.integers(min_value=1, max_value=10_000))
def test_chunks_join_to_the_body(unit: bytes, times: int):
    body = unit * times
    assert b"".join(chunk for chunk, _ in split_into_chunks(body)) == body
