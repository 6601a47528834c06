"""What the composition root takes from flags and plan, and which of them contradict each other."""

from __future__ import annotations

import argparse

import pytest

from epp.cli import flags
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError
from epp.picker import EndpointPicker

CONFIG = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig"


def build_picker(*words: str, config: str = CONFIG + "}") -> EndpointPicker:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    flags.add_arguments(parser)
    return EndpointPicker(parser.parse_args(list(words)), load_config(config, PluginRegistry.load()), "test")


def test_discoveries_come_from_flags_and_configuration() -> None:
    plugins = ", plugins: [{type: file-discovery, parameters: {path: p}}]"
    config = CONFIG + plugins + ", dataLayer: {discovery: {pluginRef: file-discovery}}}"
    picker = build_picker("--dns=a:1", "--endpoint=10.0.0.1:1", "--endpoint=10.0.0.2:1", "--dns=b:1", config=config)
    names = [name for name, _ in picker._create_discoveries()]
    assert names == ["--endpoint", "file-discovery", "--dns a:1", "--dns b:1"]


def test_without_a_discovery_the_error_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match="endpoints: give --endpoint HOST:PORT, --dns NAME:PORT or a configuration"):
        build_picker()
    with pytest.raises(ConfigError, match="Kubernetes API is not supported yet; give --endpoint"):
        build_picker("--pool-name=pool")


def test_completion_by_scrapes_adds_a_source_of_running_requests_if_there_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def planned_sources(*words: str, config: str) -> list[str]:
        picker = build_picker("--endpoint=10.0.0.1:1", *words, config=config)
        return [planned.name for planned in picker._plan_data_sources()]

    without_source = CONFIG + ", dataLayer: {injectDefaults: false}}"
    assert planned_sources(config=without_source) == []
    assert planned_sources("--completion=scrape", config=CONFIG + "}") == ["metrics-data-source"]
    assert not caplog.records
    assert planned_sources("--completion=scrape", config=without_source) == ["metrics-data-source"]
    assert "no configured extractor reports running requests, which --completion=scrape needs" in caplog.text


def test_a_picker_is_not_ready_before_its_discoveries_have_listed() -> None:
    assert not build_picker("--endpoint=10.0.0.1:1").is_ready()
