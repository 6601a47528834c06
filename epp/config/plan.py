"""The plan of one picker: every plugin of the configuration, instantiated, checked and in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import yaml

from epp.api import (
    AsyncProducer,
    DataSource,
    Discovery,
    Extractor,
    Parser,
    Plugin,
    Producer,
    ProfileHandler,
    SchedulerProfile,
)
from epp.config.plugin_kinds import SaturationDetector
from epp.config.schema import API_VERSION, CONFIG_KIND
from epp.errors import Problem


class PlannedDataSource(msgspec.Struct, frozen=True):
    """A data source and the extractors that read its payloads, with their names in the configuration."""

    name: str
    source: DataSource
    extractors: Sequence[tuple[str, Extractor]] = ()


class PickerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The effective configuration. Pairs are (name in the configuration, plugin)."""

    profiles: Mapping[str, SchedulerProfile]
    profile_handler: tuple[str, ProfileHandler]
    producers: Sequence[tuple[str, Producer | AsyncProducer]] = ()
    parsers: Sequence[tuple[str, Parser]] = ()
    data_sources: Sequence[PlannedDataSource] = ()
    discovery: tuple[str, Discovery] | None = None
    saturation_detector: tuple[str, SaturationDetector] | None = None
    feature_gates: Mapping[str, bool] = {}
    used_plugins: Mapping[str, tuple[str, Plugin]] = {}
    warnings: Sequence[Problem] = ()

    def plugins_by_name(self) -> dict[str, Plugin]:
        """Every used plugin by name, in order of declaration; those added by default come last."""
        return {name: plugin for name, (_, plugin) in self.used_plugins.items()}

    def types_by_name(self) -> dict[str, str]:
        """Name of each used plugin -> type as configured."""
        return {name: type for name, (type, _) in self.used_plugins.items()}

    def to_yaml(self) -> str:
        """The effective configuration as YAML, defaults included; loading it gives the same plan."""
        document: dict[str, Any] = {"apiVersion": API_VERSION, "kind": CONFIG_KIND}
        if self.feature_gates:
            document["featureGates"] = [f"{name}={str(on).lower()}" for name, on in self.feature_gates.items()]
        document["plugins"] = [
            _plugin_section(name, type, plugin) for name, (type, plugin) in self.used_plugins.items()
        ]
        document["schedulingProfiles"] = [_profile_section(profile) for profile in self.profiles.values()]
        document["requestHandler"] = {"parsers": [{"pluginRef": name} for name, _ in self.parsers]}
        if self.saturation_detector is not None:
            document["flowControl"] = {"saturationDetector": {"pluginRef": self.saturation_detector[0]}}
        document["dataLayer"] = self._data_layer_section()
        return yaml.safe_dump(document, sort_keys=False, default_flow_style=False, width=110)

    def _data_layer_section(self) -> dict[str, Any]:
        layer: dict[str, Any] = {"injectDefaults": False}
        if self.data_sources:
            layer["sources"] = [
                {"pluginRef": item.name, "extractors": [{"pluginRef": name} for name, _ in item.extractors]}
                for item in self.data_sources
            ]
        if self.discovery is not None:
            layer["discovery"] = {"pluginRef": self.discovery[0]}
        return layer


def effective_parameters(plugin: Plugin) -> dict[str, Any]:
    """The plugin's parameters as YAML values, defaults included; those without a value are left out."""
    values = msgspec.to_builtins(plugin)
    parameters: dict[str, Any] = {}
    for field in msgspec.structs.fields(plugin):
        value = values[field.encode_name]
        unset = value is None or (value in ("", [], {}) and (field.required or not _default_value(field)))
        if not unset:
            parameters[field.encode_name] = _simplify_numbers(value)
    return parameters


def _default_value(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _plugin_section(name: str, type: str, plugin: Plugin) -> dict[str, Any]:
    parameters = effective_parameters(plugin)
    section: dict[str, Any] = {"name": name, "type": type}
    if parameters:
        section["parameters"] = parameters
    return section


def _simplify_numbers(value: Any) -> Any:
    """The value with whole floats as integers: 8192.0 becomes 8192."""
    if isinstance(value, dict):
        return {key: _simplify_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_simplify_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _profile_section(profile: SchedulerProfile) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [{"pluginRef": name} for name, _ in profile.filters]
    entries += [{"pluginRef": name, "weight": _simplify_numbers(weight)} for name, weight, _ in profile.scorers]
    return {"name": profile.name, "plugins": [*entries, {"pluginRef": profile.picker[0]}]}
