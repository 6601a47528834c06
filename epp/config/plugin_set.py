"""The plugins of one configuration: declared, created by default, referred to."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from epp.api import Plugin
from epp.config.convert import INVALID, convert_value, describe_unknown_field, join_path
from epp.config.llmd_types import LLMD_PLUGIN_TYPES
from epp.config.plugin_kinds import interface_problems, kind_noun
from epp.config.registry import PluginRegistry
from epp.config.schema import PluginSpec
from epp.errors import EppError, Problem


class PluginEntry(msgspec.Struct, eq=False):
    """One plugin. `kind` and `plugin` are None where a problem stands in `path` instead."""

    name: str
    plugin_type: str
    path: str
    plugin_class: type[Plugin] | None = None
    plugin: Plugin | None = None
    used: bool = False

    def require_plugin(self) -> Plugin:
        assert self.plugin is not None, "a plan is built only when there were no problems"
        return self.plugin

    def is_a(self, *kinds: type[Plugin]) -> bool:
        """False also where the class is not known."""
        return self.plugin_class is not None and issubclass(self.plugin_class, kinds)


class PluginSet:
    """Plugins by name, in order of declaration; problems and warnings gather here."""

    def __init__(self, registry: PluginRegistry, allow_experimental: bool) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.registry = registry
        self._allow_experimental = allow_experimental
        self._entries: dict[str, PluginEntry] = {}

    def add_problem(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def add_required_problem(self, path: str) -> None:
        """Something is missing there, unless what stands there is known to be wrong."""
        if all(known.path != path for known in self.problems):
            self.add_problem(path, "is required")

    def add_warning(self, path: str, message: str) -> None:
        self.warnings.append(Problem(path, message))

    def entries(self) -> list[PluginEntry]:
        return list(self._entries.values())

    def entries_of(self, *kinds: type[Plugin]) -> list[PluginEntry]:
        """Those of one of these kinds, in order."""
        return [entry for entry in self._entries.values() if entry.is_a(*kinds)]

    def find(self, name: str) -> PluginEntry | None:
        return self._entries.get(name)

    def declare(self, spec: PluginSpec, path: str) -> None:
        """One entry of `plugins`."""
        if not spec.type:
            if not any(problem.path.startswith(f"{path}.") for problem in self.problems):
                self.add_required_problem(f"{path}.type")
            if not spec.name:
                return
        name = spec.name or spec.type
        if (first := self._entries.get(name)) is not None:
            self.add_problem(join_path(path, "name"), f"the name {name!r} is taken by {first.path}")
            return
        entry = self._entries[name] = PluginEntry(name, spec.type, path)
        if spec.type:
            self._build_plugin(entry, spec.parameters or {})

    def create_default(self, type: str, why: str) -> PluginEntry:
        """The plugin named by its type, made with default parameters if nobody declared it."""
        entry = self._entries.get(type)
        if entry is None:
            entry = self._entries[type] = PluginEntry(type, type, f"{type} ({why})")
            self._build_plugin(entry, {})
        elif entry.plugin_type != type and entry.plugin_class is not None:
            try:
                wanted = kind_noun(self.registry.find_class(type))
            except EppError:
                return entry
            if kind_noun(entry.plugin_class) != wanted:
                self.add_problem(
                    join_path(entry.path, "name"), f"the name {type!r} is that of {why}, which is a {wanted}"
                )
                return PluginEntry(type, type, entry.path)
        return entry

    def resolve_reference(
        self, ref: str, path: str, *kinds: type[Plugin], what: str, create: bool = False
    ) -> PluginEntry | None:
        """The plugin that a reference names; None (and a problem) if there is none, or of the wrong kind."""
        if not ref:
            self.add_required_problem(path)
            return None
        entry = self._entries.get(ref)
        if entry is None and create and ref in self.registry:
            entry = self.create_default(ref, f"referred to in {path}")
        if entry is None:
            self.add_problem(path, self._undefined_message(ref, what))
            return None
        if kinds and entry.plugin_class is not None and not entry.is_a(*kinds):
            self.add_problem(path, f"{ref!r} ({kind_noun(entry.plugin_class)}) is no {what}")
            return None
        return entry

    def _undefined_message(self, ref: str, what: str) -> str:
        if ref in self.registry:
            return f"no plugin named {ref!r} is declared; add `- type: {ref}` to plugins"
        if ref in LLMD_PLUGIN_TYPES:
            kinds = ", ".join(entry for entry in self.registry if entry.endswith(ref.rpartition("-")[2]))
            return f"llm-d's plugin {ref!r} is not available yet; available as {what}: {kinds or 'none'}"
        close = difflib.get_close_matches(ref, self._entries, 2)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        return f"no plugin named {ref!r} is declared{hint}"

    def _build_plugin(self, entry: PluginEntry, parameters: dict[str, Any]) -> None:
        try:
            kind = self.registry.find_class(entry.plugin_type)
        except EppError as error:
            self.add_problem(join_path(entry.path, "type"), str(error))
            return
        entry.plugin_class = kind
        if kind.experimental and not self._allow_experimental:
            self.add_problem(
                join_path(entry.path, "type"),
                f"{entry.plugin_type!r} is experimental; --allow-experimental-plugins permits it",
            )
        for problem in interface_problems(kind):
            report = self.add_problem if problem.fatal else self.add_warning
            report(join_path(entry.path, "type"), problem.message)
        path = join_path(entry.path, "parameters")
        if kind.ignore_unknown_parameters:
            parameters = self._drop_unknown_parameters(kind, parameters, path)
        plugin = convert_value(parameters, kind, path, self.problems)
        entry.plugin = None if plugin is INVALID else plugin

    def _drop_unknown_parameters(self, kind: type[Plugin], parameters: dict[str, Any], path: str) -> dict[str, Any]:
        names = {field.encode_name for field in msgspec.structs.fields(kind)}
        for key in parameters:
            if key not in names:
                self.add_warning(join_path(path, key), f"ignored: {describe_unknown_field(key, names)}")
        return {key: value for key, value in parameters.items() if key in names}
