"""Flattens the prompt of an OpenAI request into one byte string: conversations that begin alike share a prefix.

The result is hashed for prefix matching and counted for token estimates, and not sent anywhere. Texts are included
decoded, tool schemas as JSON, and media (images, video, audio) as a digest, repeated to their estimated token count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
import numpy as np
import xxhash
from msgspec import Raw

ABSENT = Raw()
"""Default of fields that are absent from a body; compared by identity."""

SEPARATOR = "\x1e"
BYTES_PER_TOKEN = 4
MAX_TOKEN_ID = 0xFFFFFFFF

# Tokens of one content part, whatever its size. Image and video are llm-d's defaults for media of unknown size: 640x360
# at 1,024 pixels a token, and ten seconds of such video at two frames a second. Audio is ten seconds at 12.5 tokens a
# second plus 14; llm-d counts a token for four base64 characters (assetPlaceholderCount), many times what engines use.
MEDIA_TOKENS = (("image", 225), ("video", 4500), ("audio", 139))

MAX_MEDIA_BYTES = 1 << 20
"""Bytes of all media of one prompt. Unbounded, a small body with many parts would become a huge prompt."""

# What msgspec raises for JSON of another shape: invalid UTF-8 and deep nesting are reported by Python's own exceptions.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


_lone_surrogate = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class ContentPart(msgspec.Struct, gc=False):
    """A content part of a message; of parts without text only the type is read."""

    type: str = ""
    text: str | None = None


class ChatMessage(msgspec.Struct, gc=False):
    """A chat message, or an item of the Responses API. Other fields are skipped."""

    role: str | None = None
    content: str | list[Raw] | None = None
    tool_calls: Raw = ABSENT


_part_decoder = msgspec.json.Decoder(ContentPart)
_message_decoder = msgspec.json.Decoder(ChatMessage)
_string_decoder = msgspec.json.Decoder(str)
_list_decoder = msgspec.json.Decoder(list[Raw])
_ID_LIST_BYTES = b"0123456789, \t\r\n"


def replace_lone_surrogates(body: bytes) -> bytes:
    """The body, of the same length, with a space in place of each unpaired UTF-16 surrogate escape.

    Clients that truncate a text within an emoji send them. msgspec rejects them; Python's json, and so vLLM, does not.
    """
    return _lone_surrogate.sub(rb"\\u0020", body)


def join_texts(texts: Iterable[str]) -> bytes:
    """The texts as one byte string, separated by the record separator U+001E, which prompts hardly ever contain."""
    return SEPARATOR.join(texts).encode()


def raw_json_text(raw: Raw) -> str:
    """The JSON source of a value."""
    return bytes(raw).decode("utf-8", "replace")


def append_messages(messages: Iterable[ChatMessage], into: list[str], room: int = MAX_MEDIA_BYTES) -> int:
    """Appends role, content and tool calls of each message, in order; returns the media bytes left of `room`."""
    for message in messages:
        into.append(message.role or "")
        content = message.content
        if isinstance(content, str):
            into.append(content)
        elif content:
            for raw in content:
                text, taken = content_part_text(raw, room)
                into.append(text)
                room -= taken
        if message.tool_calls is not ABSENT:
            into.append(raw_json_text(message.tool_calls))
    return room


def content_part_text(raw: Raw, room: int) -> tuple[str, int]:
    """A content part as text, and the media bytes that it takes of `room`.

    Text parts are their text. Others are a digest, repeated to four bytes for each estimated token if there is room.
    """
    try:
        part = _part_decoder.decode(raw)
    except DECODE_ERRORS:
        return raw_json_text(raw), 0
    if part.text is not None:
        return part.text, 0
    digest = xxhash.xxh3_128_hexdigest(raw)
    for kind, tokens in MEDIA_TOKENS:
        length = tokens * BYTES_PER_TOKEN
        if kind in part.type and length <= room:
            return (digest * (length // len(digest) + 1))[:length], length
    return digest, 0


def append_items(raw: Raw, into: list[str]) -> None:
    """Appends a string, or each item of a list: messages by `append_messages`, other items as JSON."""
    text = decode_string(raw)
    if text is not None:
        into.append(text)
        return
    room = MAX_MEDIA_BYTES
    for item in decode_list(raw) or (raw,):
        try:
            message = _message_decoder.decode(item)
        except DECODE_ERRORS:
            message = None
        if message is None or (message.role is None and message.content is None):
            into.append(decode_string(item) or raw_json_text(item))
        else:
            room = append_messages((message,), into, room)


def extract_prompt(raw: Raw) -> tuple[bytes, bytes]:
    """Text, or token ids as little-endian u32, of a prompt: a string, strings, token ids, or lists of token ids.

    Several prompts are concatenated. One of the two results is empty; both are if the prompt is empty.
    """
    text = decode_string(raw)
    if text is not None:
        return text.encode(), b""
    ids = decode_token_ids(raw)
    if ids is not None:
        return b"", ids
    parts = decode_list(raw)
    if parts is None:
        return (b"" if is_null_or_absent(raw) else bytes(raw)), b""
    texts = [decode_string(part) for part in parts]
    lists = [decode_token_ids(part) for part in parts if texts[0] is None]
    if lists and None not in lists:
        return b"", b"".join([ids for ids in lists if ids is not None])
    return join_texts(
        [raw_json_text(part) if text is None else text for text, part in zip(texts, parts, strict=True)]
    ), b""


def is_null_or_absent(raw: Raw) -> bool:
    """Whether the value is JSON null, or absent from the body."""
    return bytes(raw) in (b"", b"null")


def decode_string(raw: Raw) -> str | None:
    """The value as a string; None if it is not a string, or not a valid one."""
    try:
        return _string_decoder.decode(raw)
    except DECODE_ERRORS:
        return None


def decode_list(raw: Raw) -> list[Raw] | None:
    """The elements of a list; None if the value is not a list."""
    try:
        return _list_decoder.decode(raw)
    except DECODE_ERRORS:
        return None


def decode_token_ids(raw: Raw) -> bytes | None:
    """Token ids as little-endian u32; None if the value is not a list of token ids.

    Parsed by numpy from the JSON source: 100,000 ids take 1.5 ms, against 4.5 ms through a list of Python integers.
    """
    data = bytes(raw)
    if data.translate(None, _ID_LIST_BYTES) != b"[]":
        return None
    if not data.strip(b"[] \t\r\n"):
        return b""
    ids = np.fromstring(data[1:-1], np.uint64, sep=",")
    return ids.astype("<u4").tobytes() if ids.max() <= MAX_TOKEN_ID else None
