"""Token usage in response bodies of every API, however they are cut into chunks."""

from __future__ import annotations

import pytest

from epp.api import TokenUsage
from epp.parsers.usage import MAX_HELD_BYTES, UsageScanner

NOTHING = TokenUsage()


def usage_of(*pieces: bytes) -> TokenUsage:
    scanner = UsageScanner()
    for piece in pieces:
        scanner.feed(piece)
    return scanner.usage()


def test_a_json_response() -> None:
    body = b'{"id":"x","choices":[],"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}'
    assert usage_of(body) == TokenUsage(7, 10, None)


def test_cached_tokens() -> None:
    body = b'{"usage": {"prompt_tokens": 7, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}}'
    assert usage_of(body) == TokenUsage(7, 1, 4)
    assert usage_of(body.replace(b'{"cached_tokens": 4}', b"null")) == TokenUsage(7, 1, None)


@pytest.mark.parametrize("start", [b"data: ", b"data:"])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_the_last_event_of_a_stream(start: bytes, end: bytes) -> None:
    events = [
        b'{"choices":[{"delta":{"content":"a"}}],"usage":null}',
        b'{"usage":{"prompt_tokens":7,"completion_tokens":2}}',
    ]
    assert usage_of(*(start + event + end for event in [*events, b"[DONE]"])) == TokenUsage(7, 2, None)


def test_continuous_usage_is_replaced_by_later_counts() -> None:
    assert usage_of(
        *(b'data: {"usage":{"prompt_tokens":7,"completion_tokens":%d}}\n\n' % n for n in (1, 2, 3))
    ) == TokenUsage(7, 3)


def test_several_events_in_one_chunk() -> None:
    events = b"".join(b'data: {"usage":{"prompt_tokens":7,"completion_tokens":%d}}\n\n' % n for n in (1, 2, 3))
    assert usage_of(events) == TokenUsage(7, 3)


def test_the_responses_api_nests_the_usage() -> None:
    event = (
        b'event: response.completed\ndata: {"type":"response.completed","response":{"status":"completed","usage":'
        b'{"input_tokens":31,"input_tokens_details":{"cached_tokens":16},"output_tokens":5,"total_tokens":36}}}\n\n'
    )
    assert usage_of(b'data: {"type":"response.created","response":{"usage":null}}\n\n', event) == TokenUsage(31, 5, 16)


def test_anthropic_reports_input_and_output_separately() -> None:
    first = b'data: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    last = b'data: {"type":"message_delta","usage":{"output_tokens":15}}\n\n'
    assert usage_of(first, last) == TokenUsage(25, 15)


@pytest.mark.parametrize(
    "text",
    [
        rb'{"content":"\"usage\":{\"prompt_tokens\":9}"}',
        rb'{"content":"they said \"usage"}',
        b'{"content":"usage"}',
        b'{"properties":{"usage":{"type":"object","properties":{}}}}',
        b'{"usage":{"prompt_tokens":"9"}}',
        b'{"usage":{"prompt_tokens":-9}}',
        b'{"usage":{broken}}',
        b'{"usage":7}',
        b'{"usage":{"prompt_tokens":9',
        b"",
    ],
)
def test_bodies_without_a_usage_object(text: bytes) -> None:
    assert usage_of(text) == NOTHING


def test_the_bytes_held_back_are_bounded() -> None:
    scanner = UsageScanner()
    for piece in (b"x" * 70_000, b'{"usage":{' + b" " * MAX_HELD_BYTES, b" " * 70_000, b'"usage"', b": "):
        scanner.feed(piece)
        assert len(scanner._held) <= MAX_HELD_BYTES
    scanner.feed(b'{"prompt_tokens":3}')
    assert scanner.usage() == TokenUsage(3)


def test_deeply_nested_objects_are_scanned_in_linear_time() -> None:
    deep = 200_000
    nested = b'{"a":' * deep + b"1" + b"}" * deep
    scanner = UsageScanner()
    scanner.feed(b'{"usage":' + nested + b',"usage":{"prompt_tokens":3}}')
    assert scanner.usage() == TokenUsage(3, None, None)
