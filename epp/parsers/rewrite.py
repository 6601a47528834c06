"""Replaces the model name in a JSON body; every other byte stays the same."""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec import Raw

from epp.parsers.prompts import replace_lone_surrogates


class _ModelField(msgspec.Struct, gc=False):
    model: Raw = Raw()


_model_decoder = msgspec.json.Decoder(_ModelField)


def replace_model(body: bytes, model: str) -> bytes:
    """The body with this model name: the value of its member `model`, which is added in front if there is none.

    Raises `msgspec.MsgspecError` if the body is not a JSON object.
    """
    span = find_model_span(body)
    if span is not None:
        return splice_model(body, span, model)
    at = body.index(b"{") + 1
    comma = b"" if body[at:].lstrip(b" \t\r\n").startswith(b"}") else b","
    return b"".join((body[:at], b'"model":', msgspec.json.encode(model), comma, body[at:]))


def splice_model(body: bytes, span: tuple[int, int], model: str) -> bytes:
    """The body with the JSON value at `span` replaced by the model name as a JSON string."""
    start, end = span
    return b"".join((body[:start], msgspec.json.encode(model), body[end:]))


def find_model_span(body: bytes) -> tuple[int, int] | None:
    """Start and end of the value of the top-level member `model`; None if there is none.

    Of repeated members it is the last one, which is the one that JSON parsers return. A `msgspec.Raw` is a view into
    the decoded buffer: the difference of the two addresses is the offset, and Python reads none of the body.
    """
    try:
        value = _model_decoder.decode(body).model
    except msgspec.DecodeError:
        body = replace_lone_surrogates(body)
        value = _model_decoder.decode(body).model
    length = len(memoryview(value))
    if not length:
        return None
    start = _buffer_address(value) - _buffer_address(body)
    return start, start + length


def _buffer_address(buffer: bytes | Raw) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)
