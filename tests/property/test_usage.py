"""The usage of a response body does not depend on how it is cut into chunks."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from epp.api import TokenUsage
from epp.parsers.usage import UsageScanner

STREAM = (
    b'data: {"choices":[{"delta":{"content":"\\"usage\\": {"}}],"usage":null}\r\n\r\n'
    b'data: {"choices":[{"delta":{"content":"usage"}}],"usage" : { "prompt_tokens" : 7, "completion_tokens" : 1 } }\n\n'
    b'data:{"response":{"usage":{"input_tokens":7,"output_tokens":2,"input_tokens_details":{"cached_tokens":5}}}}\n\n'
    b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_the_usage_does_not_depend_on_the_chunks(cuts: list[int]) -> None:
    scanner = UsageScanner()
    borders = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(borders):
        scanner.feed(STREAM[start:end])
    assert scanner.usage() == TokenUsage(7, 2, 5)


@given(st.integers(0, len(STREAM)))
def test_one_byte_chunks_give_the_usage_of_the_whole_body(length: int) -> None:
    scanner, whole = UsageScanner(), UsageScanner()
    for at in range(length):
        scanner.feed(STREAM[at : at + 1])
    whole.feed(STREAM[:length])
    assert scanner.usage() == whole.usage()


@given(
    st.lists(st.sampled_from([b'"usage"', b"{", b"}", b":", b"\\", b'"', b"\n", b"1", b'"prompt_tokens"']), max_size=60)
)
def test_any_sequence_of_tokens_is_scanned(chunks: list[bytes]) -> None:
    scanner = UsageScanner()
    for chunk in chunks:
        scanner.feed(chunk)
    assert isinstance(scanner.usage(), TokenUsage)
