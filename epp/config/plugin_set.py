"""The plugins of one configuration: declared, created by default, referred to."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from epp.api import Plugin
from epp.config.convert import MISSING, convert, join, unknown
from epp.config.llmd_types import LLM_D_TYPES
from epp.config.registry import Registry
from epp.config.schema import PluginSpec
from epp.errors import EppError, Problem


class Declared(msgspec.Struct, eq=False):
    """One plugin. `kind` and `plugin` are None where a problem stands in `path` instead."""

    name: str
    plugin_type: str
    path: str
    kind: type[Plugin] | None = None
    plugin: Plugin | None = None
    used: bool = False

    def instance(self) -> Plugin:
        assert self.plugin is not None, "a plan is built only when there were no problems"
        return self.plugin

    def is_a(self, *kinds: type[Plugin]) -> bool:
        """False also where the class is not known."""
        return self.kind is not None and issubclass(self.kind, kinds)


class Declarations:
    """Plugins by name, in order of declaration; problems and warnings gather here."""

    def __init__(self, registry: Registry, allow_experimental: bool) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.registry = registry
        self._allow_experimental = allow_experimental
        self._entries: dict[str, Declared] = {}

    def problem(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def required(self, path: str) -> None:
        """Something is missing there, unless what stands there is known to be wrong."""
        if all(known.path != path for known in self.problems):
            self.problem(path, "is required")

    def warn(self, path: str, message: str) -> None:
        self.warnings.append(Problem(path, message))

    def all(self) -> list[Declared]:
        return list(self._entries.values())

    def of(self, *kinds: type[Plugin]) -> list[Declared]:
        """Those of one of these kinds, in order."""
        return [entry for entry in self._entries.values() if entry.is_a(*kinds)]

    def get(self, name: str) -> Declared | None:
        return self._entries.get(name)

    def declare(self, spec: PluginSpec, path: str) -> None:
        """One entry of `plugins`."""
        if not spec.type:
            if not any(problem.path.startswith(f"{path}.") for problem in self.problems):
                self.required(f"{path}.type")
            if not spec.name:
                return
        name = spec.name or spec.type
        if (first := self._entries.get(name)) is not None:
            self.problem(join(path, "name"), f"the name {name!r} is taken by {first.path}")
            return
        entry = self._entries[name] = Declared(name, spec.type, path)
        if spec.type:
            self._build(entry, spec.parameters or {})

    def create(self, type: str, why: str) -> Declared:
        """The plugin named by its type, made with default parameters if nobody declared it."""
        entry = self._entries.get(type)
        if entry is None:
            entry = self._entries[type] = Declared(type, type, f"{type} ({why})")
            self._build(entry, {})
        elif entry.plugin_type != type and entry.kind is not None:
            try:
                wanted = _kind_of(self.registry.find(type))
            except EppError:
                return entry
            if _kind_of(entry.kind) != wanted:
                self.problem(join(entry.path, "name"), f"the name {type!r} is that of {why}, which is a {wanted}")
                return Declared(type, type, entry.path)
        return entry

    def resolve(self, ref: str, path: str, *kinds: type[Plugin], what: str, create: bool = False) -> Declared | None:
        """The plugin that a reference names; None (and a problem) if there is none, or of the wrong kind."""
        if not ref:
            self.required(path)
            return None
        entry = self._entries.get(ref)
        if entry is None and create and ref in self.registry:
            entry = self.create(ref, f"referred to in {path}")
        if entry is None:
            self.problem(path, self._undefined(ref, what))
            return None
        if kinds and entry.kind is not None and not entry.is_a(*kinds):
            self.problem(path, f"{ref!r} ({_kind_of(entry.kind)}) is no {what}")
            return None
        return entry

    def _undefined(self, ref: str, what: str) -> str:
        if ref in self.registry:
            return f"no plugin named {ref!r} is declared; add `- type: {ref}` to plugins"
        if ref in LLM_D_TYPES:
            kinds = ", ".join(entry for entry in self.registry if entry.endswith(ref.rpartition("-")[2]))
            return f"llm-d's plugin {ref!r} is not available yet; available as {what}: {kinds or 'none'}"
        close = difflib.get_close_matches(ref, self._entries, 2)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        return f"no plugin named {ref!r} is declared{hint}"

    def _build(self, entry: Declared, parameters: dict[str, Any]) -> None:
        try:
            kind = self.registry.find(entry.plugin_type)
        except EppError as error:
            self.problem(join(entry.path, "type"), str(error))
            return
        entry.kind = kind
        if kind.alpha and not self._allow_experimental:
            self.problem(
                join(entry.path, "type"),
                f"{entry.plugin_type!r} is experimental; --allow-experimental-plugins permits it",
            )
        path = join(entry.path, "parameters")
        if kind.lenient:
            parameters = self._known(kind, parameters, path)
        plugin = convert(parameters, kind, path, self.problems)
        entry.plugin = None if plugin is MISSING else plugin

    def _known(self, kind: type[Plugin], parameters: dict[str, Any], path: str) -> dict[str, Any]:
        names = {field.encode_name for field in msgspec.structs.fields(kind)}
        for key in parameters:
            if key not in names:
                self.warn(join(path, key), f"ignored: {unknown(key, names)}")
        return {key: value for key, value in parameters.items() if key in names}


def _kind_of(kind: type[Plugin]) -> str:
    """What the plugin is, in words: the base class of epp.api."""
    return next((base.__name__ for base in kind.__mro__ if base.__module__ == "epp.api.plugins"), "Plugin").lower()
