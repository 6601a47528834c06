"""Which parser reads a request: the longest path suffix wins, a parser without paths takes the rest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from epp.api import Parser
from epp.errors import BadRequest

PATH_CACHE_SIZE = 64


class ParserSelector:
    """Parsers by path suffix. Parsers listed after one without paths are never asked, as in llm-d."""

    def __init__(self, parsers: Sequence[tuple[str, Parser]]) -> None:
        suffixes: dict[str, tuple[str, Parser]] = {}
        self._fallback: tuple[str, Parser] | None = None
        for name, parser in parsers:
            if not parser.paths:
                self._fallback = (name, parser)
                break
            for suffix in parser.paths:
                suffixes.setdefault(suffix, (name, parser))
        self._suffixes = sorted(suffixes.items(), key=lambda item: -len(item[0]))
        self._cached_select = lru_cache(PATH_CACHE_SIZE)(self._select_by_suffix)

    def select(self, path: str) -> tuple[str, Parser]:
        """(plugin name, parser) for a request path, its query ignored; `BadRequest` if there is none."""
        return self._cached_select(path)

    def _select_by_suffix(self, path: str) -> tuple[str, Parser]:
        bare = path.partition("?")[0]
        for suffix, entry in self._suffixes:
            if bare.endswith(suffix):
                return entry
        if self._fallback is None:
            raise BadRequest(f"no parser registered matching path suffix for: {bare}")
        return self._fallback
