"""Parts of a request as prompt text or token ids."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest
from msgspec import Raw

from epp.parsers import prompts


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def items_of(value: Any) -> list[str]:
    found: list[str] = []
    prompts.append_items(raw(value), found)
    return found


@pytest.mark.parametrize(
    ("body", "replaced"),
    [
        (rb"cut \ud83d", rb"cut \u0020"),
        (rb"\ude00 first", rb"\u0020 first"),
        (rb"\uD83D\uDE00", rb"\uD83D\uDE00"),
        (rb"\ud83d\ud83d\ude00", rb"\u0020\ud83d\ude00"),
        (rb"\u00e9", rb"\u00e9"),
    ],
)
def test_only_surrogates_without_their_other_half_are_replaced(body: bytes, replaced: bytes) -> None:
    assert prompts.replace_lone_surrogates(body) == replaced


@pytest.mark.parametrize(
    ("value", "ids"),
    [([], []), ([7], [7]), ([0, prompts.MAX_TOKEN_ID], [0, prompts.MAX_TOKEN_ID])],
)
def test_token_ids_are_little_endian_u32(value: list[int], ids: list[int]) -> None:
    assert prompts.decode_token_ids(raw(value)) == array("I", ids).tobytes()


@pytest.mark.parametrize("value", [[prompts.MAX_TOKEN_ID + 1], [-1], [1.5], ["1"], [[1]], "1", 1, None])
def test_other_values_are_no_token_ids(value: Any) -> None:
    assert prompts.decode_token_ids(raw(value)) is None


@pytest.mark.parametrize(("kind", "tokens"), prompts.MEDIA_TOKENS)
def test_a_media_part_is_as_long_as_its_tokens_while_there_is_room(kind: str, tokens: int) -> None:
    part = raw({"type": f"input_{kind}", "data": "a"})
    text, taken = prompts.content_part_text(part, prompts.MAX_MEDIA_BYTES)
    assert (len(text), taken) == (4 * tokens, 4 * tokens)
    short, none = prompts.content_part_text(part, taken - 1)
    assert (text.startswith(short), len(short), none) == (True, 32, 0)


def test_room_for_media_is_shared_by_the_messages_of_a_prompt() -> None:
    image = prompts.ChatMessage(role="user", content=[raw({"type": "image_url"})] * 2)
    length = 225 * prompts.BYTES_PER_TOKEN
    texts: list[str] = []
    assert prompts.append_messages([image, image], texts, room=3 * length + 5) == 5
    assert [len(text) for text in texts] == [4, length, length, 4, length, 32]


def test_items_are_messages_texts_or_json() -> None:
    assert items_of("hi") == ["hi"]
    assert items_of([{"role": "user", "content": "hi"}, "there", {"type": "call"}, 5]) == [
        "user", "hi", "there", '{"type": "call"}', "5",
    ]  # fmt: skip
    assert items_of({"a": 1}) == ['{"a": 1}']


def test_a_prompt_is_text_or_token_ids() -> None:
    assert prompts.extract_prompt(raw("é")) == ("é".encode(), b"")
    assert prompts.extract_prompt(raw([[1], [2, 3]])) == (b"", array("I", [1, 2, 3]).tobytes())
    assert prompts.extract_prompt(raw([[1], "a"])) == (b"[1]\x1ea", b"")
    assert prompts.extract_prompt(raw(None)) == prompts.extract_prompt(prompts.ABSENT) == (b"", b"")
