"""Prompt content of OpenAI-shaped bodies as one run of bytes, so that equal beginnings stay equal.

The bytes are hashed and counted, never sent anywhere. Texts stand decoded; what is no text (images, tool schemas)
stands as JSON or as a digest, and a content part that an engine expands to many tokens is given its estimated length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
import numpy as np
import xxhash
from msgspec import Raw

ABSENT = Raw()
"""The value of a field that is not there; told by identity."""

SEPARATOR = "\x1e"
BYTES_PER_TOKEN = 4
MAX_TOKEN_ID = 0xFFFFFFFF

# Tokens of one content part where its size is unknown: llm-d's estimates for a 640x360 image at 1,024 pixels a token,
# for ten seconds of such video at two frames a second, and for ten seconds of audio at 12.5 tokens a second plus 14.
MEDIA_TOKENS = (("image", 225), ("video", 4500), ("audio", 139))

MAX_MEDIA_BYTES = 1 << 20
"""Bytes that media may come to in all; without a bound a small body of many parts would become a huge prompt."""

# What msgspec raises for JSON that is not of the wanted shape; the latter two are no errors of its own.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


_lone_surrogate = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class ContentPart(msgspec.Struct, gc=False):
    """A content part, as far as it is text."""

    type: str = ""
    text: str | None = None


class ChatMessage(msgspec.Struct, gc=False):
    """A chat message or an item of the Responses API; what else it has stays unread."""

    role: str | None = None
    content: str | list[Raw] | None = None
    tool_calls: Raw = ABSENT


_part_decoder = msgspec.json.Decoder(ContentPart)
_message_decoder = msgspec.json.Decoder(ChatMessage)
_string_decoder = msgspec.json.Decoder(str)
_list_decoder = msgspec.json.Decoder(list[Raw])
_ID_LIST_BYTES = b"0123456789, \t\r\n"


def replace_lone_surrogates(body: bytes) -> bytes:
    """The body, of the same length, with halves of surrogate pairs made spaces.

    Clients that cut a text within an emoji send them; msgspec refuses them, the standard library (hence vLLM) does not.
    """
    return _lone_surrogate.sub(rb"\\u0020", body)


def join_texts(texts: Iterable[str]) -> bytes:
    """The texts as bytes, told apart by a character that JSON text hardly ever holds."""
    return SEPARATOR.join(texts).encode()


def raw_json_text(raw: Raw) -> str:
    """JSON as it came."""
    return bytes(raw).decode("utf-8", "replace")


def append_messages(messages: Iterable[ChatMessage], into: list[str], room: int = MAX_MEDIA_BYTES) -> int:
    """Appends role, content and tool calls of each message, in order; returns what is left of `room`."""
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
    """The text of a text part; anything else by digest, as long as its tokens if there is room. And the room taken."""
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
    """Appends a string, or the messages and other items of a list; whatever is neither stands verbatim."""
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
    """(text, token ids as little-endian u32) of a prompt: a string, strings, token ids or lists of token ids.

    Several prompts follow one another. One of the two is empty; both are where the prompt is.
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
    """Whether this is JSON's null, or was not there at all."""
    return bytes(raw) in (b"", b"null")


def decode_string(raw: Raw) -> str | None:
    """The string, or None if this is no (well-formed) string."""
    try:
        return _string_decoder.decode(raw)
    except DECODE_ERRORS:
        return None


def decode_list(raw: Raw) -> list[Raw] | None:
    """The elements, or None if this is no list."""
    try:
        return _list_decoder.decode(raw)
    except DECODE_ERRORS:
        return None


def decode_token_ids(raw: Raw) -> bytes | None:
    """Token ids as little-endian u32, or None if this is no list of such. 100,000 ids take 1.5 ms, decoded 4.5."""
    data = bytes(raw)
    if data.translate(None, _ID_LIST_BYTES) != b"[]":
        return None
    if not data.strip(b"[] \t\r\n"):
        return b""
    ids = np.fromstring(data[1:-1], np.uint64, sep=",")
    return ids.astype("<u4").tobytes() if ids.max() <= MAX_TOKEN_ID else None
