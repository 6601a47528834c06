"""Configurations as they are written for llm-d's picker, read by the plugins that come with ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from epp.config import presets
from epp.config.loader import check, load
from epp.config.plan import Plan
from epp.config.registry import Registry
from epp.errors import ConfigError

SAMPLES = Path(__file__).parent / "samples"
REGISTRY = Registry.load()


def loaded(name: str) -> Plan:
    return load((SAMPLES / name).read_text(), REGISTRY, source=name)


def refused(name: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(name)
    return [str(problem) for problem in caught.value.problems]


def test_file_discovery() -> None:
    plan = loaded("file_discovery.yaml")
    assert plan.discovery is not None
    assert plan.discovery[0] == "file-discovery"
    assert [(name, weight) for name, weight, _ in plan.profiles["default"].scorers] == [("queue", 1)]
    assert [source.name for source in plan.sources] == ["metrics-data-source"]
    assert [str(warning) for warning in plan.warnings] == [
        "plugins[3].parameters.scorer: ignored: unknown field; there are none here (line 18)",
        "plugins[3].parameters.picker: ignored: unknown field; there are none here (line 19)",
    ]


def test_decode_only() -> None:
    plan = loaded("decode_only.yaml")
    profile = plan.profiles["default"]
    assert [name for name, _ in profile.filters] == ["decode-filter", "newest"]
    assert [(name, weight) for name, weight, _ in profile.scorers] == [
        ("active-request-scorer", 1),
        ("token-load-scorer", 2.5),
    ]
    assert profile.picker[1].max_num_of_endpoints == 3
    assert [name for name, _ in plan.producers] == [
        "token-producer",
        "approx-prefix-cache-producer",
        "inflight-load-producer",
    ]
    assert [warning.path for warning in plan.warnings] == ["apiVersion", "flowControl"]


def test_what_is_not_built_yet_is_said_so_and_nothing_else() -> None:
    baseline = refused("optimized_baseline.yaml")
    assert len(baseline) == 1
    assert baseline[0].startswith("plugins[3].type: llm-d's plugin 'no-hit-lru-scorer' is not available yet; ")
    disaggregated = refused("prefill_decode.yaml")
    assert disaggregated[0].startswith("plugins[5].type: llm-d's plugin 'disagg-profile-handler' is not available yet")
    assert len(disaggregated) == 1


@pytest.mark.parametrize("name", ["file_discovery.yaml", "decode_only.yaml"])
def test_the_effective_plan_loads_to_itself(name: str) -> None:
    described = loaded(name).describe()
    again = load(described, REGISTRY)
    assert again.describe() == described
    assert again.warnings == []


@pytest.mark.parametrize("name", presets.names())
def test_presets_load_without_a_word(name: str) -> None:
    assert not check(presets.text(name), REGISTRY).startswith("#")
