"""The metrics page beside the page that vLLM 0.32 served (tests/data/vllm/metrics_under_load.txt)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from epp.clock import ManualClock
from epp.sim.metrics import MetricsPage

from .conftest import Bench

CAPTURE = (Path(__file__).parents[2] / "data/vllm/metrics_under_load.txt").read_text()
Make = Callable[..., Bench]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page(bench: Bench) -> str:
    return MetricsPage(bench.engine, "tiny", bench.clock, lora=True).render().decode()


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


def test_lines_are_those_of_the_capture(bench: Make) -> None:
    """No family, help, type, label or bucket is missing or of our making, and the order is the same."""
    it = bench()

    def without_values_in_labels(text: str) -> list[str]:
        lines = [line for line in shape(text) if not line.startswith("vllm:lora_requests_info")]
        return [re.sub(r'="[^"]*"', "", line) if line.startswith("vllm:cache_config_info") else line for line in lines]

    assert without_values_in_labels(page(it)) == without_values_in_labels(CAPTURE)


def test_other_families_of_the_capture_are_left_out_on_purpose(bench: Make) -> None:
    """Python's process and FastAPI's own metrics: nobody routes by them."""
    names = {family.name for family in parse(CAPTURE)} - {family.name for family in parse(page(bench()))}
    assert {name.split("_")[0] for name in names} == {"python", "process", "http"}


def test_gauges_show_the_engine(bench: Make) -> None:
    it = bench(max_num_seqs=1, max_loras=1)
    it.add("a", "x" * 10, 3)
    it.add("b", "x" * 10, 3)
    text = samples(page(it))
    common = {("engine", "0"), ("model_name", "tiny")}
    assert text["vllm:num_requests_running", frozenset(common)] == 1
    assert text["vllm:num_requests_waiting", frozenset(common)] == 1
    assert text["vllm:num_requests_waiting_by_reason", frozenset({*common, ("reason", "capacity")})] == 1
    assert text["vllm:kv_cache_usage_perc", frozenset(common)] == pytest.approx(0.03)


def test_counters_and_histograms_show_what_happened(bench: Make) -> None:
    it = bench()
    for _ in range(2):
        it.add("a", "abcdefgh", 3)
        it.finish()
    text = samples(page(it))
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


def test_block_size_and_count_can_be_learned(bench: Make) -> None:
    it = bench(block_size=32, num_gpu_blocks=4096)
    (labels,) = (dict(labels) for name, labels in samples(page(it)) if name == "vllm:cache_config_info")
    assert (labels["block_size"], labels["num_gpu_blocks"], labels["kv_cache_size_tokens"]) == ("32", "4096", "131072")


def test_adapters_absent_until_asked_for_then_every_combination_with_its_time(bench: Make) -> None:
    it = bench(max_loras=2)
    it.add("a", "hello", 1)
    assert not [name for name, _ in samples(page(it)) if name == "vllm:lora_requests_info"]
    it.add("b", "hello", 1, adapter="l1")
    it.finish()
    seen = {
        dict(labels)["running_lora_adapters"]: value
        for (name, labels), value in samples(page(it)).items()
        if name == "vllm:lora_requests_info" and ("max_lora", "2") in labels
    }
    assert set(seen) == {"l1", ""}
    assert max(seen.values()) == seen[""] == pytest.approx(it.clock.wall())


def test_the_page_is_rendered_again_only_when_the_engine_moved(bench: Make) -> None:
    it = bench()
    page = MetricsPage(it.engine, 'a "model"', ManualClock())
    first = page.render()
    assert page.render() is first
    it.add("a", "hello", 2)
    second = page.render()
    assert second != first
    assert page.render() is second
    it.step()
    assert page.render() != second
    assert b'model_name="a \\"model\\""' in first
