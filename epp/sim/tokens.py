"""A deterministic substitute for a tokenizer: four bytes of UTF-8 are one token.

A sequence of tokens is `bytes`, `TOKEN_BYTES` for each token, so that hashing and counting are cheap. As with real
tokenizers the special tokens of a chat template separate the texts: each text is padded on its own. Answers consist
of tokens of exactly `TOKEN_BYTES` characters, so an answer that returns in the next turn's history has the same tokens
again, and hits the prefix cache.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import xxhash

TOKEN_BYTES = 4
IMAGE_TOKENS = 576
"""Tokens of an image or other media item: the number of patches of LLaVA-1.5."""

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_WORD_STARTS = tuple(f" {a}{b}{c}" for a in _CONSONANTS for b in _VOWELS for c in "nrlst")
_WORD_CONTINUATIONS = tuple(f"{a}{b}{c}{d}" for a in _CONSONANTS for b in _VOWELS for c in "lmnrst" for d in _VOWELS)
_VOCABULARY = _WORD_STARTS * 3 + _WORD_CONTINUATIONS


def encode_text(text: str) -> bytes:
    """The tokens of a text; the last one is padded."""
    data = text.encode("utf-8", "replace")
    return data + b"\0" * (-len(data) % TOKEN_BYTES)


def pack_token_ids(ids: Iterable[int]) -> bytes:
    """One token for each id of a prompt that the client has tokenized itself."""
    values = list(ids)
    return struct.pack(f"<{len(values)}I", *(value & 0xFFFFFFFF for value in values))


def count_tokens(data: bytes) -> int:
    """The number of tokens."""
    return len(data) // TOKEN_BYTES


def unpack_token_ids(data: bytes) -> list[int]:
    """The tokens as integers, for `/tokenize`."""
    return list(struct.unpack(f"<{count_tokens(data)}I", data))


def encode_chat(messages: Iterable[Mapping[str, Any]], tools: Any = None) -> bytes:
    """A conversation in a ChatML-like template, ending with the start of the assistant's turn.

    The tokens of each earlier state of the conversation are a prefix of it.
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
    """The token at `index` of the answer with this seed: `TOKEN_BYTES` ASCII characters of pseudo-language."""
    # A hash of both by the constants of SplitMix64: its increment and its first multiplier.
    mixed = ((seed ^ (index + 1) * 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return _VOCABULARY[(mixed >> 33) % len(_VOCABULARY)]


def answer_text(seed: int, start: int, end: int) -> str:
    """The tokens from `start` to `end` (exclusive) of an answer, as text."""
    return "".join([answer_token(seed, index) for index in range(start, end)])


def natural_answer_length(seed: int, mean: int = 128) -> int:
    """The length of an answer without `max_tokens`: between half and one and a half of `mean`, fixed by the seed."""
    return mean // 2 + seed % mean


def answer_seed(prompt: bytes) -> int:
    """The seed of the answer to a prompt; the same on every server."""
    return int(xxhash.xxh3_64_intdigest(prompt))
