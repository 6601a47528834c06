"""docs/plugins.md agrees with the plugin classes, and its examples load."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from epp.config import catalogue
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry

ROOT = Path(__file__).parents[3]
PLUGIN_TYPES = catalogue.built_in_types(PluginRegistry.load())


def test_the_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert catalogue.main(["--check", "--page", str(ROOT / catalogue.PAGE_PATH)]) == 0, capsys.readouterr().err


def test_a_stale_page_is_reported_and_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "plugins.md"
    assert catalogue.main(["--check", "--page", str(page)]) == 1
    assert "is stale: run python -m epp.config.catalogue --write" in capsys.readouterr().err
    assert catalogue.main(["--write", "--page", str(page)]) == 0
    assert catalogue.main(["--check", "--page", str(page)]) == 0
    page.write_text(page.read_text().replace("queue-scorer", "cue-scorer"))
    assert catalogue.main(["--check", "--page", str(page)]) == 1


@pytest.mark.parametrize("type", PLUGIN_TYPES)
def test_every_built_in_plugin_has_a_docstring_and_an_example_that_loads(type: str) -> None:
    registry = PluginRegistry.load()
    plugin = registry.find_class(type)
    assert plugin.type == type
    assert (plugin.__doc__ or "").strip(), "no docstring"
    text = catalogue.render_example(type, plugin)
    plan = load_config("apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n" + text, registry)
    assert type in plan.plugins_by_name()
    assert plan.warnings == []


@pytest.mark.parametrize("plugin_type", PLUGIN_TYPES)
def test_a_class_is_named_after_its_plugin_type(plugin_type: str) -> None:
    assert PluginRegistry.load().find_class(plugin_type).__name__.lower() == plugin_type.replace("-", "")


def test_summaries_have_kind_package_and_text() -> None:
    rows, errors = catalogue.summarize_types(PluginRegistry.load())
    found = {row[0]: row[1:] for row in rows}
    assert errors == []
    assert found["queue-scorer"][:2] == ("scorer", "endpoint-picker")
    assert found["token-producer"][0] == "producer"
    assert all(text for _, _, text in found.values())


def test_a_type_that_cannot_be_imported_does_not_hide_the_others() -> None:
    points = [EntryPoint("gone", "no.such:Thing", "epp.plugins"), EntryPoint("q", "scorers.queue:QueueScorer", "")]
    rows, errors = catalogue.summarize_types(PluginRegistry.load(points))
    assert [row[0] for row in rows] == ["q"]
    assert [error.partition(":")[0] for error in errors] == [
        "plugin 'gone' of an unknown package cannot be imported from no.such"
    ]
