"""Metric specifications of configurations, `metric` or `metric{label=value,…}` (llm-d: extractor/metrics/spec.go)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from epp.datalayer.scrape import promtext

_SPEC = re.compile(r"\s*([A-Za-z_:][\w:]*)\s*(?:\{(.*)\})?\s*", re.ASCII | re.DOTALL)
_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\s]+))\s*(?:,|$)', re.ASCII)
# Most label blocks are the same on every page; those of LoRA metrics change, and must not accumulate.
MAX_CACHED_BLOCKS = 1024


class MetricSpec:
    """A metric name, and the labels that a series must have. Quotes around label values are optional."""

    __slots__ = ("labels", "metric")

    def __init__(self, metric: str, labels: Mapping[str, str] | None = None) -> None:
        self.metric = metric
        self.labels = dict(labels or {})

    def __repr__(self) -> str:
        return f"MetricSpec({self.metric!r}, {self.labels!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MetricSpec) and (self.metric, self.labels) == (other.metric, other.labels)

    def __hash__(self) -> int:
        return hash(self.metric)

    @classmethod
    def parse(cls, text: str) -> MetricSpec | None:
        """The specification; None for an empty text, which switches the quantity off. ValueError if it is malformed."""
        if not text.strip():
            return None
        whole = _SPEC.fullmatch(text)
        if whole is None:
            raise ValueError(f"invalid metric specification {text!r}: write metric or metric{{label=value,…}}")
        labels: dict[str, str] = {}
        rest = (whole[2] or "").strip()
        while rest:
            matcher = _MATCHER.match(rest)
            if matcher is None:
                raise ValueError(f"invalid metric specification {text!r}: expected label=value at {rest!r}")
            name, quoted, bare = matcher.groups()
            labels[name] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            rest = rest[matcher.end() :]
        return cls(whole[1], labels)


class LabelCache:
    """Parsed label blocks, at most `MAX_CACHED_BLOCKS`."""

    __slots__ = ("_parsed",)

    def __init__(self) -> None:
        self._parsed: dict[bytes, Mapping[str, str]] = {}

    def parse(self, block: bytes) -> Mapping[str, str]:
        """The labels in a label block."""
        found = self._parsed.get(block)
        if found is None:
            if len(self._parsed) >= MAX_CACHED_BLOCKS:
                self._parsed.clear()
            found = self._parsed[block] = promtext.parse_labels(block)
        return found
