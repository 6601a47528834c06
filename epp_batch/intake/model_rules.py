"""Which model transcribes which recording."""

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
        """False for a length that nobody knows."""
        length = recording.seconds
        if length is None:
            return False
        if length == self.seconds:
            return self.comparison.endswith("=")
        return (length > self.seconds) == self.comparison.startswith(">")


class _GlobRule(NamedTuple):
    pattern: str

    def matches(self, recording: Recording) -> bool:
        """By the whole source, by its last part, or by an output name."""
        names = (recording.source, PurePosixPath(recording.source).name, *recording.stems)
        return any(fnmatchcase(name, self.pattern) for name in names)


class ModelRules:
    """`--model` rules: the first that fits counts, a bare name last; a manifest's word goes before all of them."""

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
                raise InputError(f"--model: {bare} and {model} for all the same", remedy="give one bare name")
            else:
                bare = model
        self._default = bare or default

    def count_unknown_lengths(self, recordings: Iterable[Recording]) -> int:
        """How many recordings no rule by length can judge, since nobody knows theirs; 0 without such rules."""
        if not any(isinstance(rule, _LengthRule) for rule, _ in self._rules):
            return 0
        return sum(recording.seconds is None for recording in recordings)

    def select_model(self, recording: Recording) -> str:
        for stem in recording.stems:
            if stem in self._manifest:
                return self._manifest[stem]
        return next((model for rule, model in self._rules if rule.matches(recording)), self._default)


def _parse_rule(text: str) -> tuple[_LengthRule | _GlobRule | None, str]:
    if match := _LENGTH_RULE.fullmatch(text.strip()):
        return _LengthRule(match[1], float(match[2]) * _UNIT_SECONDS[match[3]]), match[4].strip()
    pattern, sign, model = text.strip().rpartition("=")
    if not model or (sign and not pattern):
        raise InputError(f"--model {text!r} names no model", remedy="NAME, 'GLOB=NAME', '>30m=NAME' or '<90s=NAME'")
    if sign and pattern[0] in "<>":
        raise InputError(
            f"--model {text!r}: {pattern!r} is no length", remedy="as '>1800s=NAME', '>30m=NAME', '<2h=NAME'"
        )
    return (_GlobRule(pattern) if sign else None), model
