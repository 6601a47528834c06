"""Views for files and pipes: plain lines, or one JSON object a line."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TextIO

import msgspec

from epp_batch.output_folder import Failure
from epp_batch.progress_view import words
from epp_batch.progress_view.run_tracker import Standing
from epp_batch.timeline import Event

QUIET_SECONDS = 10.0
_TOLD = ("finished", "evicted", "retried", "cancelled", "refused", "summarized", "unsummarized")


class Lines:
    """Ends, evictions and retries as they come; how the run stands at most every ten seconds, and at the end."""

    def __init__(self, out: TextIO, errors: TextIO, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self._out, self._errors, self._names = out, errors, names
        self._said, self._said_at = "", float("-inf")
        self._troubles: set[str] = set()

    def event(self, event: Event) -> None:
        if event.kind in _TOLD:
            say(self._out, words.event_line(event, self._names))

    def progress(self, unit: str, audio_seconds: float) -> None:
        """Part of the line every ten seconds."""

    def failure(self, failure: Failure) -> None:
        say(self._errors, words.line(failure))

    def tick(self, state: Standing) -> None:
        for trouble in state.troubles:
            if _cause(trouble) not in self._troubles:
                say(self._out, trouble)
        self._troubles = {_cause(trouble) for trouble in state.troubles}
        line = words.counts(state)
        if line != self._said and (state.over or state.at - self._said_at >= QUIET_SECONDS):
            self._said, self._said_at = line, state.at
            say(self._out, words.summary(state))

    def close(self) -> None:
        """Nothing is held back."""


class Json:
    """One object a line, by what it is about: `event`, `progress`, `failure`, `state`."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        self._out, self._errors = out, errors
        self._said = float("-inf")

    def event(self, event: Event) -> None:
        self._say({"event": event})

    def progress(self, unit: str, audio_seconds: float) -> None:
        self._say({"progress": {"unit": unit, "audio_seconds": audio_seconds}})

    def failure(self, failure: Failure) -> None:
        self._say({"failure": failure})
        say(self._errors, words.line(failure))

    def tick(self, state: Standing) -> None:
        if state.over or state.at - self._said >= QUIET_SECONDS:
            self._said = state.at
            self._say({"state": state})

    def close(self) -> None:
        """Nothing is held back."""

    def _say(self, value: object) -> None:
        say(self._out, msgspec.json.encode(value).decode())


def _cause(trouble: str) -> str:
    """Without the number of Jobs in brackets, which is news to nobody."""
    return trouble.rpartition(" (")[0] or trouble


def say(stream: TextIO, text: str) -> None:
    """One line at once; a reader that has gone away stops no run."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(text, file=stream, flush=True)
