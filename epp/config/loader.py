"""From the text of an EndpointPickerConfig to a plan, or to everything that is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

from epp.api import (
    SCRAPED,
    DataSource,
    Discovery,
    Extractor,
    Filter,
    Parser,
    Picker,
    Plugin,
    Policy,
    Profile,
    ProfileHandler,
    Scorer,
)
from epp.config import defaults, sections
from epp.config.convert import convert
from epp.config.data_graph import Producers
from epp.config.plan import Plan, Source
from epp.config.plugin_set import Declarations, Declared
from epp.config.registry import Registry
from epp.config.schema import API_VERSION, KIND, LEGACY_API_VERSION, DataLayer, EndpointPickerConfig
from epp.config.yaml_document import Document, read
from epp.errors import ConfigError, Problem

P = TypeVar("P", bound=Plugin)


def load(text: str, registry: Registry, *, source: str = "", allow_experimental: bool = False) -> Plan:
    """The plan of a configuration text; `ConfigError` lists every problem with its path and line.

    `source` is what messages call the text, usually the file's name.
    """
    declarations = Declarations(registry, allow_experimental)
    document = read(text, declarations.problems)
    if document is None:
        raise ConfigError(declarations.problems, source)
    if not isinstance(document.value, dict):
        raise ConfigError([Problem("", f"expected a mapping with apiVersion {API_VERSION} and kind {KIND}")], source)
    config: EndpointPickerConfig = convert(document.value, EndpointPickerConfig, "", declarations.problems)
    _check_version(config, declarations)
    draft = _Draft(config, declarations)
    if declarations.problems:
        raise ConfigError(_located(declarations.problems, document), source)
    return draft.plan(_located(declarations.warnings, document))


def check(text: str, registry: Registry, *, source: str = "", allow_experimental: bool = False) -> str:
    """The effective configuration, warnings as comments above it; raises as `load`."""
    plan = load(text, registry, source=source, allow_experimental=allow_experimental)
    return "".join(f"# warning: {warning}\n" for warning in plan.warnings) + plan.describe()


class _Draft:
    """All sections read; a plan if that left no problems."""

    def __init__(self, config: EndpointPickerConfig, declarations: Declarations) -> None:
        for i, spec in enumerate(config.plugins):
            if spec is not None:
                declarations.declare(spec, f"plugins[{i}]")
        layer = config.data_layer or DataLayer()
        self._declarations = declarations
        self._gates = sections.feature_gates(config, declarations)
        self._profiles = sections.profiles(config, declarations)
        self._handler = defaults.default_handler(declarations, [draft.name for draft in self._profiles])
        self._parsers = sections.parsers(config, declarations)
        self._detector = sections.saturation_detector(config, declarations)
        sections.flow_control(config.flow_control, declarations)
        self._sources = sections.data_sources(layer, declarations)
        self._discovery = sections.discovery(layer, declarations)
        if self._handler is not None:
            self._handler.used = True
        self._producers = Producers(declarations)
        self._ordered = self._producers.in_order()
        _warn_of_idle(declarations, bool(self._sources))

    def plan(self, warnings: Sequence[Problem]) -> Plan:
        """To be called only when there were no problems."""
        used = [entry for entry in self._declarations.all() if entry.used]
        assert self._handler is not None, "its absence is a problem"
        return Plan(
            profiles={draft.name: _profile(draft) for draft in self._profiles},
            handler=_pair(self._handler, ProfileHandler),
            producers=[(entry.name, self._producers.plugin(entry)) for entry in self._ordered],
            parsers=[_pair(entry, Parser) for entry in self._parsers],
            sources=[
                Source(*_pair(source, DataSource), [_pair(entry, Extractor) for entry in extractors])
                for source, extractors in self._sources
            ],
            discovery=_pair(self._discovery, Discovery) if self._discovery else None,
            saturation_detector=_pair(self._detector, Policy) if self._detector else None,
            feature_gates=self._gates,
            used={entry.name: (entry.plugin_type, entry.instance()) for entry in used},
            warnings=warnings,
        )


def _check_version(config: EndpointPickerConfig, declarations: Declarations) -> None:
    if config.api_version == LEGACY_API_VERSION:
        declarations.warn("apiVersion", f"deprecated: use {API_VERSION}")
    elif config.api_version != API_VERSION:
        declarations.problem("apiVersion", f"expected {API_VERSION}, got {config.api_version or 'nothing'}")
    if config.kind != KIND:
        declarations.problem("kind", f"expected {KIND}, got {config.kind or 'nothing'}")


def _warn_of_idle(declarations: Declarations, scraped: bool) -> None:
    for entry in declarations.all():
        if not entry.used:
            declarations.warn(entry.path, f"{entry.name!r} is declared, but nothing uses it")
        elif entry.plugin is not None and not scraped and any(need in SCRAPED for need in entry.plugin.wants()):
            declarations.warn(entry.path, f"{entry.name!r} needs scraped metrics, and there is no data source")


def _located(problems: Sequence[Problem], document: Document) -> list[Problem]:
    """With lines, in the order of the file."""
    found = []
    for problem in problems:
        line = document.line(problem.path) if problem.path else None
        message = f"{problem.message} (line {line})" if line else problem.message
        found.append((line or sys.maxsize, Problem(problem.path, message)))
    return [problem for _, problem in sorted(found, key=lambda pair: pair[0])]


def _profile(draft: sections.ProfileDraft) -> Profile:
    assert draft.picker is not None, "its absence is a problem"
    return Profile(
        draft.name,
        filters=[_pair(entry, Filter) for entry in draft.filters],
        scorers=[(entry.name, weight, _pair(entry, Scorer)[1]) for entry, weight in draft.scorers],
        picker=_pair(draft.picker, Picker),
    )


def _pair(entry: Declared, kind: type[P]) -> tuple[str, P]:
    plugin = entry.instance()
    assert isinstance(plugin, kind), "references are checked for their kind"
    return entry.name, plugin
