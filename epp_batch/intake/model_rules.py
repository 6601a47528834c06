"""The `--model` rules, which assign a Whisper model to each recording."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NamedTuple

from epp_batch.errors import InputError
from epp_batch.spec import Recording

_LENGTH_RULE = re.compile(r"([<>]=?)\s*(\d+(?:\.\d+)?)([smh]?)=(.+)")
_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class _LengthRule(NamedTuple):
    comparison: str
    seconds: float

    def matches(self, recording: Recording) -> bool:
        """False if the recording's duration is unknown."""
        length = recording.seconds
        if length is None:
            return False
        if length == self.seconds:
            return self.comparison.endswith("=")
        return (length > self.seconds) == self.comparison.startswith(">")


class _GlobRule(NamedTuple):
    pattern: str

    def matches(self, recording: Recording) -> bool:
        """Matches the whole source, its last path component, or an output stem."""
        names = (recording.source, PurePosixPath(recording.source).name, *recording.stems)
        return any(fnmatchcase(name, self.pattern) for name in names)


class ModelRules:
    """Ordered `--model` rules.

    Precedence: the manifest's model, the first matching rule, a bare model name, the default.
    """

    def __init__(self, texts: Sequence[str], default: str, manifest: Mapping[str, str] | None = None) -> None:
        self._default = default
        self._manifest = manifest or {}
        self._rules: list[tuple[_LengthRule | _GlobRule, str]] = []
        bare: str | None = None
        for text in texts:
            condition, model = _parse_rule(text)
            if condition is not None:
                self._rules.append((condition, model))
            elif bare is not None and bare != model:
                raise InputError(
                    f"--model: {bare} and {model} both without a condition", remedy="give one bare model name"
                )
            else:
                bare = model
        self._default = bare or default

    def count_unknown_lengths(self, recordings: Iterable[Recording]) -> int:
        """How many recordings the length rules skip because their duration is unknown; 0 without length rules."""
        if not any(isinstance(rule, _LengthRule) for rule, _ in self._rules):
            return 0
        return sum(recording.seconds is None for recording in recordings)

    def select_model(self, recording: Recording) -> str:
        """The model of this recording."""
        for stem in recording.stems:
            if stem in self._manifest:
                return self._manifest[stem]
        return next((model for rule, model in self._rules if rule.matches(recording)), self._default)


def _parse_rule(text: str) -> tuple[_LengthRule | _GlobRule | None, str]:
    if match := _LENGTH_RULE.fullmatch(text.strip()):
        return _LengthRule(match[1], float(match[2]) * _UNIT_SECONDS[match[3]]), match[4].strip()
    pattern, sign, model = text.strip().rpartition("=")
    if not model or (sign and not pattern):
        raise InputError(
            f"--model {text!r}: model name missing", remedy="give NAME, 'GLOB=NAME', '>30m=NAME' or '<90s=NAME'"
        )
    if sign and pattern[0] in "<>":
        raise InputError(
            f"--model {text!r}: invalid length {pattern!r}", remedy="write '>1800s=NAME', '>30m=NAME' or '<2h=NAME'"
        )
    return (_GlobRule(pattern) if sign else None), model
