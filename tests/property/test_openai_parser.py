"""Any body is parsed or rejected with 400; conversations that begin alike have prompts that begin alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.api import ParsedRequest
from epp.errors import BadRequest
from epp.parsers.openai import OpenAIParser

paths = st.sampled_from(["/v1/" + path for path in OpenAIParser.paths])
keys = st.sampled_from(["type", "text", "role", "content", "tool_calls", "image_url", "name"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["text", "image_url", "user"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
fields = st.sampled_from(
    ["model", "messages", "prompt", "input", "items", "tools", "instructions", "stream", "max_tokens", "cache_salt"]
)
texts = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.lists(st.fixed_dictionaries({"role": texts, "content": texts | st.none()}), min_size=1, max_size=5)


def read(path: str, body: bytes) -> ParsedRequest | None:
    try:
        return OpenAIParser().parse(path, {}, body)
    except BadRequest:
        return None


@given(paths, st.dictionaries(fields, values))
def test_any_json_object_is_parsed_or_rejected(path: str, body: dict[str, Any]) -> None:
    parsed = read(path, json.dumps(body).encode())
    if parsed is not None:
        model = body.get("model")
        sendable = isinstance(model, str) and model.isprintable()
        assert not sendable or parsed.model == model
        assert parsed.streaming == (body.get("stream") is True)
        assert len(parsed.token_ids) % 4 == 0


@given(paths, st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_parsed_or_rejected(path: str, body: bytes) -> None:
    read(path, body)
    read(path, b'{"model":"m","prompt":' + body + b',"messages":[' + body + b"]}")


@given(messages, messages, st.booleans())
def test_a_continued_conversation_keeps_its_prefix(first: Any, more: Any, ascii_only: bool) -> None:
    def text(conversation: Any) -> bytes:
        parsed = read("/v1/chat/completions", json.dumps({"messages": conversation}, ensure_ascii=ascii_only).encode())
        assert parsed is not None
        return parsed.text

    assert text(first + more).startswith(text(first))


def test_the_text_does_not_depend_on_how_json_is_written() -> None:
    body = {"messages": [{"role": "user", "content": "ünï \U0001f600"}]}
    spellings = [json.dumps(body, ensure_ascii=flag, indent=indent) for flag in (True, False) for indent in (None, 2)]
    assert len({OpenAIParser().parse("/chat/completions", {}, each.encode()).text for each in spellings}) == 1
    with pytest.raises(BadRequest):
        OpenAIParser().parse("/chat/completions", {}, spellings[0].encode("utf-16"))
