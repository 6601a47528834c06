"""Prompt content of OpenAI-shaped bodies as one run of bytes, so that equal beginnings stay equal.

The bytes are hashed and counted, never sent anywhere. Texts stand decoded; what is no text (images, tool schemas)
stands as JSON or as a digest, and a content part that an engine expands to many tokens is given its estimated length.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Sequence

import msgspec
import xxhash
from msgspec import Raw

NOTHING = Raw()
"""The value of a field that is not there; told by identity."""

SEPARATOR = "\x1e"
BYTES_A_TOKEN = 4

# Tokens of one content part where its size is unknown: llm-d's estimates for a 640x360 image at 1,024 pixels a token,
# for ten seconds of such video at two frames a second, and for ten seconds of audio at 12.5 tokens a second plus 14.
MEDIA_TOKENS = (("image", 225), ("video", 4500), ("audio", 139))

# What msgspec raises for JSON that is not of the wanted shape; the latter two are no errors of its own.
MISFIT = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


_lone_surrogate = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class Part(msgspec.Struct, gc=False):
    """A content part, as far as it is text."""

    type: str = ""
    text: str | None = None


class Message(msgspec.Struct, gc=False):
    """A chat message or an item of the Responses API; what else it has stays unread."""

    role: str | None = None
    content: str | list[Raw] | None = None
    tool_calls: Raw = NOTHING


_part = msgspec.json.Decoder(Part)
_message = msgspec.json.Decoder(Message)
_string = msgspec.json.Decoder(str)
_list = msgspec.json.Decoder(list[Raw])
_ids = msgspec.json.Decoder(list[int])


def mended(body: bytes) -> bytes:
    """The body, of the same length, with halves of surrogate pairs made spaces.

    Clients that cut a text within an emoji send them; msgspec refuses them, the standard library (hence vLLM) does not.
    """
    return _lone_surrogate.sub(rb"\\u0020", body)


def joined(texts: Iterable[str]) -> bytes:
    """The texts as bytes, told apart by a character that JSON text hardly ever holds."""
    return SEPARATOR.join(texts).encode()


def verbatim(raw: Raw) -> str:
    """JSON as it came."""
    return bytes(raw).decode("utf-8", "replace")


def of_messages(messages: Sequence[Message], into: list[str]) -> list[str]:
    """Role, content and tool calls of each message, in order."""
    for message in messages:
        into.append(message.role or "")
        content = message.content
        if isinstance(content, str):
            into.append(content)
        elif content:
            into.extend([of_part(part) for part in content])
        if message.tool_calls is not NOTHING:
            into.append(verbatim(message.tool_calls))
    return into


def of_part(raw: Raw) -> str:
    """The text of a text part; anything else by digest, repeated to its estimated number of tokens."""
    try:
        part = _part.decode(raw)
    except MISFIT:
        return verbatim(raw)
    if part.text is not None:
        return part.text
    digest = xxhash.xxh3_128_hexdigest(raw)
    for kind, tokens in MEDIA_TOKENS:
        if kind in part.type:
            return (digest * (tokens * BYTES_A_TOKEN // len(digest) + 1))[: tokens * BYTES_A_TOKEN]
    return digest


def of_items(raw: Raw, into: list[str]) -> list[str]:
    """A string, or a list of messages and other items; whatever is neither stands verbatim."""
    text = string(raw)
    if text is not None:
        into.append(text)
        return into
    for item in items(raw) or (raw,):
        try:
            message = _message.decode(item)
        except MISFIT:
            message = None
        if message is None or (message.role is None and message.content is None):
            into.append(string(item) or verbatim(item))
        else:
            of_messages((message,), into)
    return into


def of_prompt(raw: Raw) -> tuple[bytes, bytes]:
    """(text, token ids as little-endian u32) of a prompt: a string, strings, token ids or lists of token ids.

    Several prompts follow one another. One of the two is empty; both are where the prompt is.
    """
    text = string(raw)
    if text is not None:
        return text.encode(), b""
    ids = token_ids(raw)
    if ids is not None:
        return b"", ids
    parts = items(raw)
    if parts is None:
        return (b"" if is_null(raw) else bytes(raw)), b""
    texts = [string(part) for part in parts]
    lists = [token_ids(part) for part in parts if texts[0] is None]
    if lists and None not in lists:
        return b"", b"".join([ids for ids in lists if ids is not None])
    return joined([verbatim(part) if text is None else text for text, part in zip(texts, parts, strict=True)]), b""


def is_null(raw: Raw) -> bool:
    """Whether this is JSON's null, or was not there at all."""
    return bytes(raw) in (b"", b"null")


def string(raw: Raw) -> str | None:
    """The string, or None if this is no (well-formed) string."""
    try:
        return _string.decode(raw)
    except MISFIT:
        return None


def items(raw: Raw) -> list[Raw] | None:
    """The elements, or None if this is no list."""
    try:
        return _list.decode(raw)
    except MISFIT:
        return None


def token_ids(raw: Raw) -> bytes | None:
    """Token ids as little-endian u32, or None if this is no list of such."""
    try:
        ids = array("I", _ids.decode(raw))
    except (*MISFIT, OverflowError):
        return None
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tobytes()
