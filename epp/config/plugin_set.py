"""The plugins of one configuration: those it declares, those added by default, and references to them."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from epp.api import Plugin
from epp.config.convert import INVALID, convert_value, describe_unknown_field, join_path
from epp.config.llmd_types import LLMD_PLUGIN_TYPES
from epp.config.plugin_kinds import find_data_key_problems, find_interface_problems, kind_noun
from epp.config.registry import PluginRegistry
from epp.config.schema import PluginSpec
from epp.errors import EppError, Problem


class PluginEntry(msgspec.Struct, eq=False):
    """One plugin. `plugin_class` and `plugin` are None if they have a problem; it is reported at `path`."""

    name: str
    plugin_type: str
    path: str
    plugin_class: type[Plugin] | None = None
    plugin: Plugin | None = None
    used: bool = False

    def require_plugin(self) -> Plugin:
        """The instance; only for entries without problems."""
        assert self.plugin is not None, "a plan is built only when there were no problems"
        return self.plugin

    def is_a(self, *kinds: type[Plugin]) -> bool:
        """Whether the class is of one of these kinds; False if the class is unknown."""
        return self.plugin_class is not None and issubclass(self.plugin_class, kinds)


class PluginSet:
    """Plugin entries by name, in order of declaration, with the problems and warnings of the whole configuration."""

    def __init__(self, registry: PluginRegistry, allow_experimental: bool) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.registry = registry
        self._allow_experimental = allow_experimental
        self._entries: dict[str, PluginEntry] = {}

    def add_problem(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def add_required_problem(self, path: str) -> None:
        """Reports a missing value, unless a problem with that path is reported already."""
        if all(problem.path != path for problem in self.problems):
            self.add_problem(path, "is required")

    def add_warning(self, path: str, message: str) -> None:
        self.warnings.append(Problem(path, message))

    def entries(self) -> list[PluginEntry]:
        return list(self._entries.values())

    def entries_of(self, *kinds: type[Plugin]) -> list[PluginEntry]:
        """The entries of one of these kinds, in order of declaration."""
        return [entry for entry in self._entries.values() if entry.is_a(*kinds)]

    def find(self, name: str) -> PluginEntry | None:
        return self._entries.get(name)

    def declare(self, spec: PluginSpec, path: str) -> None:
        """Creates the plugin of one entry of `plugins`."""
        if not spec.type:
            if not any(problem.path.startswith(f"{path}.") for problem in self.problems):
                self.add_required_problem(f"{path}.type")
            if not spec.name:
                return
        name = spec.name or spec.type
        if (first := self._entries.get(name)) is not None:
            self.add_problem(join_path(path, "name"), f"the name {name!r} is already used by {first.path}")
            return
        entry = self._entries[name] = PluginEntry(name, spec.type, path)
        if spec.type:
            self._build_plugin(entry, spec.parameters or {})

    def create_default(self, type: str, why: str) -> PluginEntry:
        """The plugin named after its type, created with default parameters if it is not declared.

        `why` completes "the name … is needed for …" in a message.
        """
        entry = self._entries.get(type)
        if entry is None:
            entry = self._entries[type] = PluginEntry(type, type, f"{type} ({why})")
            self._build_plugin(entry, {})
        elif entry.plugin_type != type and entry.plugin_class is not None:
            try:
                expected = kind_noun(self.registry.find_class(type))
            except EppError:
                return entry
            actual = kind_noun(entry.plugin_class)
            if actual != expected:
                message = f"the name {type!r} is needed for {why}, a {expected}, but this is a {actual}: rename it"
                self.add_problem(join_path(entry.path, "name"), message)
                return PluginEntry(type, type, entry.path)
        return entry

    def resolve_reference(
        self, ref: str, path: str, *kinds: type[Plugin], what: str, create: bool = False
    ) -> PluginEntry | None:
        """The plugin that a reference names; None, and a problem, if there is none or it is of another kind.

        `what` is the noun for the expected plugin in messages. `create`: a plugin that is not declared is created from
        the type of that name.
        """
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
            self.add_problem(path, f"{ref!r} is a {kind_noun(entry.plugin_class)}, expected a {what}")
            return None
        return entry

    def _undefined_message(self, ref: str, what: str) -> str:
        if ref in self.registry:
            return f"no plugin named {ref!r} is declared; add `- type: {ref}` to plugins"
        if ref in LLMD_PLUGIN_TYPES:
            similar = ", ".join(entry for entry in self.registry if entry.endswith(ref.rpartition("-")[2]))
            return f"llm-d's plugin {ref!r} is not available yet; available as {what}: {similar or 'none'}"
        close = difflib.get_close_matches(ref, self._entries, 2)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        return f"no plugin named {ref!r} is declared{hint}"

    def _build_plugin(self, entry: PluginEntry, parameters: dict[str, Any]) -> None:
        try:
            plugin_class = self.registry.find_class(entry.plugin_type)
        except EppError as error:
            self.add_problem(join_path(entry.path, "type"), str(error))
            return
        entry.plugin_class = plugin_class
        if plugin_class.experimental and not self._allow_experimental:
            self.add_problem(
                join_path(entry.path, "type"),
                f"{entry.plugin_type!r} is experimental: start with --allow-experimental-plugins to use it",
            )
        if not plugin_class.type:
            name = plugin_class.__name__
            message = f"class {name} names no plugin type: write `class {name}(…, type={entry.plugin_type!r})`"
            self.add_warning(join_path(entry.path, "type"), f"{message}, which metrics show")
        for problem in find_interface_problems(plugin_class):
            report = self.add_problem if problem.fatal else self.add_warning
            report(join_path(entry.path, "type"), problem.message)
        path = join_path(entry.path, "parameters")
        if plugin_class.ignore_unknown_parameters:
            parameters = self._drop_unknown_parameters(plugin_class, parameters, path)
        plugin = convert_value(parameters, plugin_class, path, self.problems)
        if plugin is INVALID:
            return
        if messages := find_data_key_problems(plugin):
            entry.plugin_class = None  # the data graph reads the keys of classes too
            self.problems += [Problem(join_path(entry.path, "type"), message) for message in messages]
        else:
            entry.plugin = plugin

    def _drop_unknown_parameters(
        self, plugin_class: type[Plugin], parameters: dict[str, Any], path: str
    ) -> dict[str, Any]:
        names = {field.encode_name for field in msgspec.structs.fields(plugin_class)}
        for key in parameters:
            if key not in names:
                self.add_warning(join_path(path, key), f"ignored: {describe_unknown_field(key, names)}")
        return {key: value for key, value in parameters.items() if key in names}
