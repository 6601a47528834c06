"""Plugin types from entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from epp.config.llmd_types import LLMD_PLUGIN_TYPES
from epp.config.registry import ENTRY_POINT_GROUP, PluginRegistry, UnknownPluginType
from epp.errors import ConfigError, EppError
from scorers.queue import QueueScorer


def entry_point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, ENTRY_POINT_GROUP)


def test_classes_are_imported_at_the_first_look_up() -> None:
    registry = PluginRegistry.load(
        [entry_point("queue-scorer", "scorers.queue:QueueScorer"), entry_point("gone", "no.such:Thing")]
    )
    assert list(registry) == ["gone", "queue-scorer"]
    assert registry.find_class("queue-scorer") is QueueScorer
    assert "gone" in registry


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no.such:Thing", "'mine' of an unknown package cannot be imported from no.such:Thing: ModuleNotFoundError"),
        ("scorers.queue:Missing", "cannot be imported from scorers.queue:Missing: AttributeError"),
        ("math:sqrt", "math:sqrt is not a plugin class of epp.api"),
        ("pathlib:Path", "pathlib:Path is not a plugin class of epp.api"),
    ],
)
def test_a_class_that_cannot_be_imported_is_an_error_naming_its_package(value: str, message: str) -> None:
    with pytest.raises(EppError, match=message):
        PluginRegistry.load([entry_point("mine", value)]).find_class("mine")


def test_an_import_error_names_the_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugins.py").write_text("import sys\n\nTABLE = {}\nLIMIT = TABLE['limit']\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EppError, match=r"KeyError: 'limit' \(.*broken_plugins\.py, line 4\)$"):
        PluginRegistry.load([entry_point("mine", "broken_plugins:Mine")]).find_class("mine")


def test_a_type_registered_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"plugin type 'a' is registered twice: by an unknown package \(x:A\)"):
        PluginRegistry.load([entry_point("a", "x:A"), entry_point("a", "y:A")])


def test_unknown_types_are_errors_with_suggestions() -> None:
    registry = PluginRegistry.from_classes({"queue-scorer": QueueScorer})
    with pytest.raises(UnknownPluginType, match=r"unknown plugin type 'que-scorer'; did you mean queue-scorer\?"):
        registry.find_class("que-scorer")
    with pytest.raises(UnknownPluginType, match="unknown plugin type 'x'; available: queue-scorer"):
        registry.find_class("x")
    with pytest.raises(UnknownPluginType, match="llm-d's plugin 'no-hit-lru-scorer' is not available yet"):
        registry.find_class("no-hit-lru-scorer")


def test_every_registered_type_is_one_of_llm_d() -> None:
    """A misspelt name of an entry point would turn an llm-d type into another one."""
    ours = {type for type in PluginRegistry.load() if type not in LLMD_PLUGIN_TYPES}
    assert ours == set()
