"""Replacing the model name of a body, and nothing else of it."""

from __future__ import annotations

import msgspec
import pytest

from epp.parsers.rewrite import find_model_span, replace_model


@pytest.mark.parametrize(
    ("body", "rewritten"),
    [
        (b'{"model":"old","n":1e3}', b'{"model":"new","n":1e3}'),
        (b' { "n" : 12345678901234567890 , "model" : "old" } ', b' { "n" : 12345678901234567890 , "model" : "new" } '),
        (b'{"a":{"model":"no"},"model":"old"}', b'{"a":{"model":"no"},"model":"new"}'),
        (b'{"text":"\\"model\\":\\"no\\"","model":"old"}', b'{"text":"\\"model\\":\\"no\\"","model":"new"}'),
        (b'{"model":"first","model":"last"}', b'{"model":"first","model":"new"}'),
        (b'{"mod\\u0065l":"o\\"ld"}', b'{"mod\\u0065l":"new"}'),
        (b'{"model":null,"b":1}', b'{"model":"new","b":1}'),
        (b'{"b":1}', b'{"model":"new","b":1}'),
        (b"{ }", b'{"model":"new" }'),
        (b'{"b":"\\ud83d","model":"old"}', b'{"b":"\\ud83d","model":"new"}'),
    ],
)
def test_only_the_value_of_the_model_changes(body: bytes, rewritten: bytes) -> None:
    assert replace_model(body, "new") == rewritten


def test_the_new_name_is_escaped() -> None:
    assert replace_model(b'{"model":"a"}', 'b"\\é') == '{"model":"b\\"\\\\é"}'.encode()


def test_the_span_of_a_body_without_model_and_of_invalid_json() -> None:
    assert find_model_span(b'{"a":1}') is None
    with pytest.raises(msgspec.MsgspecError):
        find_model_span(b'{"model":')
