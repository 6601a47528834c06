"""What the OpenAI parser reads from a body, what it ignores, and what it rejects."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest

from epp.api import ParsedRequest
from epp.errors import BadRequest
from epp.parsers.openai import OpenAIParser

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def parse(path: str, body: bytes | dict[str, Any]) -> ParsedRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OpenAIParser().parse(path, {}, raw)


def rejection_message(path: str, body: bytes | dict[str, Any]) -> str:
    with pytest.raises(BadRequest) as caught:
        parse(path, body)
    return caught.value.message


def test_a_chat_request() -> None:
    body = {"model": "m", "stream": True, "max_tokens": 9, "cache_salt": "s", "messages": HELLO, "temperature": 0.1}
    assert parse(CHAT, body) == ParsedRequest("m", b"user\x1ehello", b"", "s", 9, True)


def test_the_query_is_not_part_of_the_path() -> None:
    assert parse(CHAT + "?beta=true", {"messages": HELLO}).text == b"user\x1ehello"


def test_a_continued_conversation_keeps_its_prefix() -> None:
    more = [*HELLO, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and now?"}]
    assert parse(CHAT, {"messages": more}).text.startswith(parse(CHAT, {"messages": HELLO}).text)


def test_tools_come_before_messages_as_in_chat_templates() -> None:
    body = {"messages": HELLO, "tools": [{"type": "function"}]}
    assert parse(CHAT, body).text == b'[{"type": "function"}]\x1euser\x1ehello'


def test_tool_calls_and_empty_content_are_part_of_the_prompt() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}
    assert parse(CHAT, {"messages": [call]}).text == b'assistant\x1e[{"id": "c1"}]'


def test_text_parts_are_texts_and_media_parts_digests() -> None:
    def prompt_with(url: str) -> bytes:
        parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]
        return parse(CHAT, {"messages": [{"role": "user", "content": parts}]}).text

    assert prompt_with("data:a").startswith(b"user\x1esee\x1e")
    assert prompt_with("data:a") == prompt_with("data:a") != prompt_with("data:b")
    assert len(prompt_with("data:a")) - len(b"user\x1esee\x1e") == 225 * 4, "an image counts as 225 tokens"


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_the_size_of_all_media_parts_is_bounded(path: str) -> None:
    messages = [{"role": "user", "content": [{"type": "video_url"}] * 20}] * 1000
    assert len(parse(path, {"messages": messages, "input": messages}).text) < 3_000_000


def test_the_text_does_not_depend_on_json_escapes() -> None:
    messages = [{"role": "user", "content": 'a\n"b" é 日'}]
    plain = json.dumps({"messages": messages}, ensure_ascii=False).encode()
    assert parse(CHAT, plain) == parse(CHAT, {"messages": messages})
    assert parse(CHAT, plain).text == 'user\x1ea\n"b" é 日'.encode()


@pytest.mark.parametrize(
    ("path", "limits", "expected"),
    [
        (CHAT, {"max_tokens": 5}, 5),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 7}, 7),
        (CHAT, {"max_output_tokens": 5}, None),
        ("/v1/completions", {"max_tokens": 5}, 5),
        ("/v1/completions", {"max_completion_tokens": 5}, None),
        ("/v1/responses", {"max_output_tokens": 5}, 5),
        ("/v1/embeddings", {"max_tokens": 5}, None),
        (CHAT, {"max_tokens": "many"}, None),
    ],
)
def test_the_output_limit_of_each_api(path: str, limits: dict[str, Any], expected: int | None) -> None:
    body = {"model": "m", "messages": HELLO, "prompt": "p", "input": "i", **limits}
    assert parse(path, body).max_output_tokens == expected


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (CHAT, "invalid chat completions request: must have valid messages field"),
        ("/v1/chat/completions/render", "invalid chat completions request: must have valid messages field"),
        ("/v1/completions", "invalid completions request: must have prompt field"),
        ("/v1/completions/render", "invalid completions request: must have prompt field"),
        ("/v1/embeddings", "invalid embeddings request: must have input field"),
        ("/v1/responses", "invalid responses request: must have input field"),
        ("/v1/conversations", "invalid conversations request: must have items field"),
        ("/v1/images/generations", "invalid images generations request: must have prompt field"),
    ],
)
@pytest.mark.parametrize("empty", [{}, {"messages": None, "prompt": None, "input": None, "items": None}])
def test_a_request_without_a_prompt_is_rejected_in_llm_ds_words(path: str, message: str, empty: dict[str, Any]) -> None:
    assert rejection_message(path, {"model": "m", **empty}) == message
    if path != "/v1/responses":  # there, an empty string is an input
        assert (
            rejection_message(path, {"model": "m", "messages": [], "prompt": "", "input": "", "items": []}) == message
        )


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize(
    "body", [b"no healthy upstream", b"", b'{"model":', b"[]", b'"text"', b'{"prompt":"x"} trailing']
)
def test_a_body_that_is_not_a_json_object_is_rejected(path: str, body: bytes) -> None:
    assert rejection_message(path, body).startswith("error unmarshaling request bodyMap: ")


def test_a_too_deeply_nested_body_is_rejected() -> None:
    body = b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert rejection_message(CHAT, body) == "error unmarshaling request bodyMap: nested too deeply"


@pytest.mark.parametrize("model", [None, 5, ["m"]])
def test_a_model_that_is_not_a_string_is_absent(model: Any) -> None:
    assert parse(CHAT, {"model": model, "messages": HELLO}).model is None


@pytest.mark.parametrize(
    "odd",
    [
        {"stream": "yes"},
        {"max_tokens": 1e30},
        {"cache_salt": 5},
        {"stream": None, "max_tokens": None, "cache_salt": None},
        {"logit_bias": 7, "stop": {"a": 1}, "temperature": "hot", "stream_options": "x"},
    ],
)
def test_values_of_unexpected_types_count_as_absent(odd: dict[str, Any]) -> None:
    parsed = parse(CHAT, {"model": "m", "messages": HELLO, **odd})
    assert (parsed.model, parsed.text, parsed.streaming) == ("m", b"user\x1ehello", False)


def test_malformed_messages_are_part_of_the_prompt_as_json() -> None:
    messages = ["just text", {"role": 5, "content": "x"}, {"role": "user", "content": {"a": 1}}]
    text = parse(CHAT, {"model": "m", "messages": messages}).text
    assert text == b'just text\x1e{"role": 5, "content": "x"}\x1e{"role": "user", "content": {"a": 1}}'


def test_a_lone_surrogate_is_replaced() -> None:
    body = rb'{"model":"m","messages":[{"role":"user","content":"cut \ud83d"}]}'
    assert parse(CHAT, body) == ParsedRequest("m", b"user\x1ecut  ")


def test_invalid_utf8_is_accepted() -> None:
    assert parse("/v1/completions", b'{"model":"m","prompt":"a\xff"}').model == "m"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
def test_prompts_of_every_form(path: str) -> None:
    def read(prompt: Any) -> tuple[bytes, bytes]:
        parsed = parse(path, {"model": "m", "prompt": prompt, "input": prompt})
        return parsed.text, parsed.token_ids

    assert read("abc") == (b"abc", b"")
    assert read(["abc", "de"]) == (b"abc\x1ede", b"")
    assert read([1, 2, 3]) == (b"", array("I", [1, 2, 3]).tobytes())
    assert read([[1, 2], [3]]) == (b"", array("I", [1, 2, 3]).tobytes())
    assert read([1, -2]) == (b"1\x1e-2", b""), "no token ids: as text"
    assert read([1 << 32]) == (b"4294967296", b"")
    assert read([(1 << 32) - 1, 10**40]) == (b"4294967295\x1e1" + b"0" * 40, b"")
    assert parse(path, b'{"prompt": [1,\n2 ], "input" : [ 1,2] }').token_ids == array("I", [1, 2]).tobytes()
    assert read(["a", 5]) == (b"a\x1e5", b"")
    assert read({"odd": 1}) == (b'{"odd": 1}', b"")


def test_the_prompt_of_the_responses_api_begins_with_tools_and_instructions() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "name": "f"},
    ]
    body = {"model": "m", "input": items, "instructions": "be brief", "tools": []}
    assert (
        parse("/v1/responses", body).text == b'[]\x1ebe brief\x1euser\x1ehi\x1e{"type": "function_call", "name": "f"}'
    )
    assert parse("/v1/responses", {"input": "hi"}).text == b"hi"
    assert parse("/v1/conversations", {"items": items[:1]}).text == b"user\x1ehi"


def test_apis_whose_responses_report_usage_have_a_reader() -> None:
    parser = OpenAIParser()
    reporting = [path for path in parser.paths if parser.create_usage_reader("/v1/" + path, True) is not None]
    assert reporting == ["chat/completions", "completions", "responses", "embeddings"]
