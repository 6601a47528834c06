"""Metric specifications as configurations write them: `metric` or `metric{label=value,…}`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from epp.datalayer.scrape import promtext

_SPEC = re.compile(r"\s*([A-Za-z_:][\w:]*)\s*(?:\{(.*)\})?\s*", re.ASCII | re.DOTALL)
_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\s]+))\s*(?:,|$)', re.ASCII)
# Label blocks repeat from page to page; those with changing values (LoRA) must not pile up.
MEMO_LIMIT = 1024


class Spec:
    """One metric, and the labels that its series must have. Quotes around label values are optional."""

    __slots__ = ("labels", "metric")

    def __init__(self, metric: str, labels: Mapping[str, str] | None = None) -> None:
        self.metric = metric
        self.labels = dict(labels or {})

    def __repr__(self) -> str:
        return f"Spec({self.metric!r}, {self.labels!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and (self.metric, self.labels) == (other.metric, other.labels)

    def __hash__(self) -> int:
        return hash(self.metric)

    @classmethod
    def parse(cls, text: str) -> Spec | None:
        """The specification; None for an empty text, which disables what it is for. ValueError if it is wrong."""
        if not text.strip():
            return None
        whole = _SPEC.fullmatch(text)
        if whole is None:
            raise ValueError(f"{text!r} is no metric specification; write metric or metric{{label=value,…}}")
        labels: dict[str, str] = {}
        rest = (whole[2] or "").strip()
        while rest:
            matcher = _MATCHER.match(rest)
            if matcher is None:
                raise ValueError(f"{text!r} is no metric specification: expected label=value at {rest!r}")
            name, quoted, bare = matcher.groups()
            labels[name] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            rest = rest[matcher.end() :]
        return cls(whole[1], labels)


class Labels:
    """Label blocks parsed once each; bounded."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Mapping[str, str]] = {}

    def of(self, block: bytes) -> Mapping[str, str]:
        """The labels of a block."""
        found = self._known.get(block)
        if found is None:
            if len(self._known) >= MEMO_LIMIT:
                self._known.clear()
            found = self._known[block] = promtext.labels(block)
        return found
