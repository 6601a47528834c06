"""The metrics page compared with one of vLLM 0.32 (tests/data/vllm/metrics_under_load.txt)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from epp.clock import ManualClock
from epp.sim.metrics import VllmMetricsPage

from .conftest import EngineRig

CAPTURE = (Path(__file__).parents[2] / "data/vllm/metrics_under_load.txt").read_text()
NewRig = Callable[..., EngineRig]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page(rig: EngineRig) -> str:
    return VllmMetricsPage(rig.engine, "tiny", rig.clock, lora=True).render().decode()


def samples(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def shape(text: str) -> list[str]:
    """Lines without values, vLLM's own families only."""
    lines = [line for line in text.splitlines() if re.match(r"(# \w+ )?vllm:", line)]
    return [line if line.startswith("#") else line.rsplit(" ", 1)[0] for line in lines]


def test_lines_equal_those_of_vllm(new_rig: NewRig) -> None:
    """Families, help texts, types, labels and buckets, and their order; not the values."""
    rig = new_rig()

    def without_values_in_labels(text: str) -> list[str]:
        lines = [line for line in shape(text) if not line.startswith("vllm:lora_requests_info")]
        return [re.sub(r'="[^"]*"', "", line) if line.startswith("vllm:cache_config_info") else line for line in lines]

    assert without_values_in_labels(page(rig)) == without_values_in_labels(CAPTURE)


def test_process_and_http_families_of_vllm_are_not_simulated(new_rig: NewRig) -> None:
    """Metrics of the Python process and of FastAPI: no router reads them."""
    names = {family.name for family in parse(CAPTURE)} - {family.name for family in parse(page(new_rig()))}
    assert {name.split("_")[0] for name in names} == {"python", "process", "http"}


def test_gauges_have_the_state_of_the_engine(new_rig: NewRig) -> None:
    rig = new_rig(max_num_seqs=1, max_loras=1)
    rig.add("a", "x" * 10, 3)
    rig.add("b", "x" * 10, 3)
    text = samples(page(rig))
    common = {("engine", "0"), ("model_name", "tiny")}
    assert text["vllm:num_requests_running", frozenset(common)] == 1
    assert text["vllm:num_requests_waiting", frozenset(common)] == 1
    assert text["vllm:num_requests_waiting_by_reason", frozenset({*common, ("reason", "capacity")})] == 1
    assert text["vllm:kv_cache_usage_perc", frozenset(common)] == pytest.approx(0.03)


def test_counters_and_histograms_have_the_history_of_the_engine(new_rig: NewRig) -> None:
    rig = new_rig()
    for _ in range(2):
        rig.add("a", "abcdefgh", 3)
        rig.finish()
    text = samples(page(rig))
    common = {("engine", "0"), ("model_name", "tiny")}
    assert text["vllm:prefix_cache_queries_total", frozenset(common)] == 16
    assert text["vllm:prefix_cache_hits_total", frozenset(common)] == 4
    assert text["vllm:request_success_total", frozenset({*common, ("finished_reason", "length")})] == 2
    assert text["vllm:prompt_tokens_by_source_total", frozenset({*common, ("source", "local_compute")})] == 12
    assert text["vllm:time_to_first_token_seconds_count", frozenset(common)] == 2
    assert text["vllm:time_to_first_token_seconds_sum", frozenset(common)] == pytest.approx(1.008 + 1.004)
    assert text["vllm:time_to_first_token_seconds_bucket", frozenset({*common, ("le", "1.0")})] == 0
    assert text["vllm:time_to_first_token_seconds_bucket", frozenset({*common, ("le", "2.5")})] == 2
    assert text["vllm:time_to_first_token_seconds_bucket", frozenset({*common, ("le", "+Inf")})] == 2


def test_cache_config_info_has_block_size_and_count(new_rig: NewRig) -> None:
    rig = new_rig(block_size=32, num_gpu_blocks=4096)
    (labels,) = (dict(labels) for name, labels in samples(page(rig)) if name == "vllm:cache_config_info")
    assert (labels["block_size"], labels["num_gpu_blocks"], labels["kv_cache_size_tokens"]) == ("32", "4096", "131072")


def test_lora_info_has_a_series_for_each_combination(new_rig: NewRig) -> None:
    rig = new_rig(max_loras=2)
    rig.add("a", "hello", 1)
    assert not [name for name, _ in samples(page(rig)) if name == "vllm:lora_requests_info"]
    rig.add("b", "hello", 1, lora_name="l1")
    rig.finish()
    seen = {
        dict(labels)["running_lora_adapters"]: value
        for (name, labels), value in samples(page(rig)).items()
        if name == "vllm:lora_requests_info" and ("max_lora", "2") in labels
    }
    assert set(seen) == {"l1", ""}
    assert max(seen.values()) == seen[""] == pytest.approx(rig.clock.wall())


def test_the_page_is_cached_until_the_engine_changes(new_rig: NewRig) -> None:
    rig = new_rig()
    page = VllmMetricsPage(rig.engine, 'a "model"', ManualClock())
    first = page.render()
    assert page.render() is first
    rig.add("a", "hello", 2)
    second = page.render()
    assert second != first
    assert page.render() is second
    rig.step()
    assert page.render() != second
    assert b'model_name="a \\"model\\""' in first
