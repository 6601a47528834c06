"""Extracts token usage from a response body that arrives in chunks, of which it holds back a few bytes at most.

Only the value of a `"usage"` key is parsed. In JSON a quote within a string is preceded by a backslash. So the seven
bytes `"usage"`, if no backslash precedes them, are a whole string, and followed by a colon they are a key; the scanner
need not recognise lines or events. It reads server-sent events with any line ending, JSON bodies, and the nested usage
objects of the Responses API.
"""

from __future__ import annotations

import re

import msgspec

from epp.api import TokenUsage

USAGE_KEY = b'"usage"'
MAX_HELD_BYTES = 8192
"""Largest part of an incomplete usage object that is held back until the next chunk; larger ones are skipped."""

_usage_opening = re.compile(rb'"usage"[ \t\r\n]*(:?)[ \t\r\n]*(\{?)')
_decode_object = msgspec.json.Decoder(dict[str, object]).decode


class UsageScanner(msgspec.Struct, eq=False, gc=False):
    """Finds usage objects. Later ones replace earlier ones field by field.

    vLLM repeats growing counts (`continuous_usage_stats`), and Anthropic's API reports input and output separately.
    """

    _held: bytes = b""
    _prompt: int | None = None
    _output: int | None = None
    _cached: int | None = None

    def feed(self, data: bytes) -> None:
        """The next chunk of the body, of any size."""
        if self._held:
            data = self._held + data
            self._held = b""
        at = data.find(USAGE_KEY)
        if at >= 0:
            at = self._scan_objects(data, at)
            if at >= 0:
                self._held = data[at:] if len(data) - at <= MAX_HELD_BYTES else b""
                return
        if data[-1:] != b"\n":  # may end within a key: hold that back, with the byte before, perhaps a backslash
            self._held = data[-len(USAGE_KEY) :]

    def usage(self) -> TokenUsage:
        """The usage found so far."""
        return TokenUsage(self._prompt, self._output, self._cached)

    def _scan_objects(self, data: bytes, at: int) -> int:
        """Records every complete usage object from `at` on; returns where an incomplete one begins, or -1."""
        while at >= 0:
            start = at
            at += len(USAGE_KEY)
            if start and data[start - 1] == 0x5C:
                at = data.find(USAGE_KEY, at)
                continue
            opening = _usage_opening.match(data, start)
            assert opening is not None, "the key was found here"
            if opening[2]:
                end = _find_object_end(data, opening.start(2))
                if end < 0:
                    return start
                self._record_usage(data[opening.start(2) : end])
                at = end
            elif opening.end() == len(data):
                return start
            at = data.find(USAGE_KEY, at)
        return -1

    def _record_usage(self, value: bytes) -> None:
        try:
            usage = _decode_object(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        prompt = _first_count(usage, "prompt_tokens", "input_tokens")
        output = _first_count(usage, "completion_tokens", "output_tokens")
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        cached = _first_count(details, "cached_tokens") if isinstance(details, dict) else None
        self._prompt = self._prompt if prompt is None else prompt
        self._output = self._output if output is None else output
        self._cached = self._cached if cached is None else cached


def _find_object_end(data: bytes, start: int) -> int:
    """The end of the JSON object that begins at `start`, or -1 if it is incomplete.

    Counts braces: usage objects contain no strings in which there could be any.
    """
    depth = 0
    while end := data.find(b"}", start) + 1:
        depth += data.count(b"{", start, end) - 1
        if not depth:
            return end
        start = end
    return -1


def _first_count(values: dict[str, object], *names: str) -> int | None:
    for name in names:
        value = values.get(name)
        if type(value) is int and value >= 0:
            return value
    return None
