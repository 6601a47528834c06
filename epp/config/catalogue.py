"""The catalogue of plugins, rendered from their classes: docs/plugins.md and `epp plugins`."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from msgspec import inspect as shapes

from epp.api import (
    DataKey,
    DataSource,
    Discovery,
    Filter,
    Parser,
    Picker,
    Plugin,
    Scorer,
)
from epp.config.plugin_kinds import PLUGIN_KINDS, kind_noun
from epp.config.registry import PluginRegistry
from epp.errors import EppError

DISTRIBUTION: Final = "endpoint-picker"
PAGE_PATH: Final = Path("docs/plugins.md")
PAGE_HEADER: Final = """# Plugins

Every plugin type that comes with the picker, by kind. Generated from the plugin classes by `python -m
epp.config.catalogue --write`; do not edit. Parameters are given under `plugins[].parameters`; an unknown parameter is
an error unless noted otherwise. `epp plugins` lists these types and those of every other installed package.
"""


def render_catalogue(registry: PluginRegistry, types: Iterable[str] | None = None) -> str:
    """The catalogue as Markdown: the given types, or all registered ones."""
    classes = {type: registry.find_class(type) for type in (registry if types is None else types)}
    parts = []
    for kind in PLUGIN_KINDS:
        members = [type for type, plugin in classes.items() if issubclass(plugin, kind.bases)]
        if members:
            parts.append(f"## {kind.title}\n")
            parts += [render_entry(type, classes[type]) for type in sorted(members)]
    return "\n".join(parts)


def built_in_types(registry: PluginRegistry) -> list[str]:
    """The types that this distribution registers."""
    return [type for type in registry if registry.package_of(type) == DISTRIBUTION]


def summarize_types(registry: PluginRegistry) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """(type, kind, package, first line of the docstring) of every registered type, and the errors of broken ones.

    One package that cannot be imported does not hide the types of the others.
    """
    rows, errors = [], []
    for type in registry:
        try:
            plugin = registry.find_class(type)
        except EppError as error:
            errors.append(str(error))
        else:
            rows.append((type, kind_noun(plugin), registry.package_of(type), _docstring(plugin).partition("\n")[0]))
    return rows, errors


def render_entry(type: str, plugin: type[Plugin]) -> str:
    """The section of one plugin type: docstring, notes, inputs and outputs, parameters, example."""
    lines = [f"### `{type}`\n", _docstring(plugin) + "\n"]
    notes = []
    if plugin.experimental:
        notes.append("Experimental: loads only with `--allow-experimental-plugins`.")
    if plugin.ignore_unknown_parameters:
        notes.append("Ignores unknown parameters, with a warning.")
    if issubclass(plugin, Filter):
        notes.append(f"If no endpoint is left, the request is rejected with {plugin.rejection.status}.")
    if issubclass(plugin, Parser):
        paths = ", ".join(f"`{path}`" for path in plugin.paths)
        notes.append(f"Reads paths that end with {paths}." if paths else "Reads all paths that no other parser reads.")
    lines += [" ".join(notes) + "\n"] if notes else []
    inputs = [f"Consumes {_format_data_keys(plugin.consumes)}."] if plugin.consumes else []
    outputs = [f"Produces {_format_data_keys(plugin.produces)}."] if plugin.produces else []
    lines += [" ".join(inputs + outputs) + "\n"] if inputs or outputs else []
    lines += _render_parameters(plugin)
    return "\n".join([*lines, "```yaml", render_example(type, plugin).rstrip(), "```\n"])


def render_example(type: str, plugin: type[Plugin]) -> str:
    """A configuration, without apiVersion and kind, that uses the plugin with its default parameters."""
    declared: dict[str, Any] = {"type": type}
    parameters = {}
    for field in shapes.type_info(plugin).fields:  # type: ignore[attr-defined]
        value = _example_value(field)
        if value not in (None, "", [], {}):
            parameters[field.encode_name] = value
    if parameters:
        declared["parameters"] = parameters
    document: dict[str, Any] = {"plugins": [declared]}
    ref = {"pluginRef": type}
    if issubclass(plugin, Filter | Scorer | Picker):
        use: dict[str, Any] = {**ref, "weight": 1} if issubclass(plugin, Scorer) else ref
        document["schedulingProfiles"] = [{"name": "default", "plugins": [use]}]
    elif issubclass(plugin, Parser):
        document["requestHandler"] = {"parsers": [ref]}
    elif issubclass(plugin, DataSource):
        document["dataLayer"] = {"sources": [{**ref, "extractors": [{"pluginRef": "core-metrics-extractor"}]}]}
        document["plugins"].append({"type": "core-metrics-extractor"})
    elif issubclass(plugin, Discovery):
        document["dataLayer"] = {"discovery": ref}
    return yaml.safe_dump(document, sort_keys=False)


def _docstring(plugin: type[Plugin]) -> str:
    return inspect.cleandoc(plugin.__doc__ or "").strip()


def _format_data_keys(keys: Sequence[DataKey]) -> str:
    return ", ".join(f"`{key.name}`" + (f" ({key.unit})" if key.unit else "") for key in keys)


def _render_parameters(plugin: type[Plugin]) -> list[str]:
    fields = shapes.type_info(plugin).fields  # type: ignore[attr-defined]
    if not fields:
        return []
    rows = [f"| `{field.encode_name}` | {_describe_type(field.type)} | {_format_default(field)} |" for field in fields]
    return ["| parameter | type | default |", "|---|---|---|", *rows, ""]


def _format_default(field: shapes.Field) -> str:
    if field.required:
        return "required"
    value = _default_value(field)
    return "–" if value in (None, "", [], {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _default_value(field: shapes.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    return None if field.default is msgspec.NODEFAULT else msgspec.to_builtins(field.default)


def _example_value(field: shapes.Field) -> Any:
    shape = field.type
    if isinstance(shape, shapes.Metadata):
        if examples := (shape.extra_json_schema or {}).get("examples"):
            return examples[0]
        shape = shape.type
    if not field.required:
        return _default_value(field)
    placeholders = {shapes.IntType: 1, shapes.FloatType: 1.0, shapes.BoolType: True}
    return placeholders.get(type(shape), f"<{field.encode_name}>")


def _describe_type(shape: shapes.Type) -> str:
    """A parameter's type and constraints in words."""
    match shape:
        case shapes.Metadata():
            description = (shape.extra_json_schema or {}).get("description", "")
            return _describe_type(shape.type) + (f": {description}" if description else "")
        case shapes.BoolType():
            return "true or false"
        case shapes.IntType() | shapes.FloatType():
            word = "integer" if isinstance(shape, shapes.IntType) else "number"
            limits = [(">", shape.gt), ("≥", shape.ge), ("<", shape.lt), ("≤", shape.le)]
            return ", ".join([word, *(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)])
        case shapes.StrType():
            return "text"
        case shapes.LiteralType():
            return " or ".join(f"`{value}`" for value in shape.values)
        case shapes.UnionType():
            return " or ".join(_describe_type(each) for each in shape.types if not isinstance(each, shapes.NoneType))
        case shapes.ListType() | shapes.VarTupleType():
            return f"list of {_describe_type(shape.item_type)}"
        case shapes.DictType():
            return f"mapping to {_describe_type(shape.value_type)}"
        case shapes.StructType():
            return "{" + ", ".join(f"{field.encode_name}: {_describe_type(field.type)}" for field in shape.fields) + "}"
        case _:
            return "anything"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the catalogue; with `--write` writes it to docs/plugins.md, with `--check` fails if that file is stale."""
    parser = argparse.ArgumentParser(prog="python -m epp.config.catalogue", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the page differs from the catalogue")
    parser.add_argument("--page", type=Path, default=PAGE_PATH)
    options = parser.parse_args(arguments)
    registry = PluginRegistry.load()
    page = f"{PAGE_HEADER}\n{render_catalogue(registry, built_in_types(registry))}"
    if options.write:
        options.page.write_text(page, "utf-8")
    elif options.check:
        if not options.page.exists() or options.page.read_text("utf-8") != page:
            sys.stderr.write(f"{options.page} is stale: run python -m epp.config.catalogue --write\n")
            return 1
    else:
        sys.stdout.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
