"""A deterministic stand-in for a tokenizer: four bytes of UTF-8 are one token.

A token sequence is plain `bytes`, `WIDTH` a token, so that hashing and counting cost next to nothing. Special tokens of
the chat template cut the text, as they do in real tokenizers: every piece is padded on its own. Answers consist of
tokens of exactly `WIDTH` characters, so an answer that comes back in the next turn's history is the same tokens again,
and its blocks are found in the cache.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import xxhash

TOKEN_BYTES = 4
IMAGE_TOKENS = 576
"""Tokens of an image or other media item: LLaVA-1.5's patch count."""

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_WORD_STARTS = tuple(f" {a}{b}{c}" for a in _CONSONANTS for b in _VOWELS for c in "nrlst")
_WORD_CONTINUATIONS = tuple(f"{a}{b}{c}{d}" for a in _CONSONANTS for b in _VOWELS for c in "lmnrst" for d in _VOWELS)
_VOCABULARY = _WORD_STARTS * 3 + _WORD_CONTINUATIONS


def encode_text(text: str) -> bytes:
    """Text as tokens; the last one is padded."""
    data = text.encode("utf-8", "replace")
    return data + b"\0" * (-len(data) % TOKEN_BYTES)


def pack_token_ids(ids: Iterable[int]) -> bytes:
    """Token ids that the client counted itself, one token each."""
    values = list(ids)
    return struct.pack(f"<{len(values)}I", *(value & 0xFFFFFFFF for value in values))


def count_tokens(data: bytes) -> int:
    """How many tokens that is."""
    return len(data) // TOKEN_BYTES


def unpack_token_ids(data: bytes) -> list[int]:
    """Tokens as integers, for `/tokenize`."""
    return list(struct.unpack(f"<{count_tokens(data)}I", data))


def encode_chat(messages: Iterable[Mapping[str, Any]], tools: Any = None) -> bytes:
    """A conversation under a ChatML-like template, ending where the assistant is to speak.

    The tokens of a conversation start with the tokens of every earlier state of it.
    """
    parts = []
    if tools:
        parts += [
            encode_text("<|im_start|>tools\n"),
            encode_text(json.dumps(tools, sort_keys=True)),
            encode_text("<|im_end|>\n"),
        ]
    for message in messages:
        parts.append(encode_text(f"<|im_start|>{message.get('role', 'user')}\n"))
        parts.append(_encode_content(message.get("content")))
        if calls := message.get("tool_calls"):
            parts.append(encode_text(json.dumps(calls, sort_keys=True)))
        parts.append(encode_text("<|im_end|>\n"))
    parts.append(encode_text("<|im_start|>assistant\n"))
    return b"".join(parts)


def _encode_content(content: Any) -> bytes:
    if isinstance(content, str):
        return encode_text(content)
    if not isinstance(content, list):
        return b""
    return b"".join(
        encode_text(str(part.get("text", ""))) if part.get("type") == "text" else _encode_media(part)
        for part in content
        if isinstance(part, dict)
    )


def _encode_media(part: Mapping[str, Any]) -> bytes:
    digest = xxhash.xxh32_digest(json.dumps(part, sort_keys=True).encode())
    return digest * IMAGE_TOKENS


def answer_token(seed: int, index: int) -> str:
    """The token at `index` of the answer that belongs to `seed`: `WIDTH` ASCII letters of pseudo-language."""
    mixed = ((seed ^ (index + 1) * 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return _VOCABULARY[(mixed >> 33) % len(_VOCABULARY)]


def answer_text(seed: int, start: int, end: int) -> str:
    """The tokens `start` to `end` of an answer, as text."""
    return "".join([answer_token(seed, index) for index in range(start, end)])


def natural_answer_length(seed: int, mean: int = 128) -> int:
    """How long an answer is that nobody limits: between half and one and a half of `mean`, fixed by `seed`."""
    return mean // 2 + seed % mean


def answer_seed(prompt: bytes) -> int:
    """What fixes the answer to a prompt: the same everywhere, every time."""
    return int(xxhash.xxh3_64_intdigest(prompt))
