"""Recorded metrics as the exposition shows them, read back with the parsers of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from epp.api import BucketHistogram, PrefixCacheStats, PrefixCacheStatsProvider, Producer, RequestOutcome
from epp.obs import metrics as module
from epp.obs.metric_cells import OVERFLOW_LABEL
from epp.obs.metric_table import PREFIX_METRICS, REQUEST_METRICS, SCHEDULER_METRICS
from epp.obs.metrics import Metrics
from epp.obs.pool_metrics import PoolCollector
from epp.obs.prefix_metrics import PrefixCacheCollector
from scorers.producers.approx_prefix_cache import HIT_BYTES_BOUNDS, HIT_RATIO_BOUNDS

OPENMETRICS = "application/openmetrics-text;version=1.0.0;charset=utf-8"
DONE = RequestOutcome("completed", 200, duration_seconds=2.0, ttft_seconds=0.5)
ANSWERED = msgspec.structs.replace(DONE, prompt_tokens=910, cached_tokens=512, output_tokens=31)

Page = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def sample_key(name: str, /, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


async def read_page(metrics: Metrics) -> Page:
    body, _ = await metrics.render_exposition()
    return {
        sample_key(sample.name, **sample.labels): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def record_one_request(metrics: Metrics, model: str = "llama", fairness: str = "team-a", priority: int = 0) -> None:
    metrics.record_scheduling_attempt(0.0003, model, "pod-1", "default", 8000)
    cells = metrics.record_routed_request(model, model, fairness, priority, body_bytes=4000, prompt_tokens=900)
    cells.record_end(True, 30_000, ANSWERED)


async def test_one_request_is_recorded_in_every_request_metric() -> None:
    metrics = Metrics()
    record_one_request(metrics)
    page = await read_page(metrics)
    labels = {"model_name": "llama", "target_model_name": "llama", "fairness_id": "team-a", "priority": "0"}
    assert page[sample_key("llm_d_epp_request_total", **labels)] == 1
    assert page[sample_key("llm_d_epp_request_running", **labels)] == 0
    assert page[sample_key("llm_d_epp_request_size_bytes_sum", **labels)] == 4000
    assert page[sample_key("llm_d_epp_response_size_bytes_sum", **labels)] == 30_000
    assert page[sample_key("llm_d_epp_request_duration_seconds_sum", **labels)] == 2.0
    assert page[sample_key("llm_d_epp_request_ttft_seconds_sum", **labels, streaming="true")] == 0.5
    assert page[sample_key("llm_d_epp_request_input_tokens_sum", **labels)] == 910
    assert page[sample_key("llm_d_epp_request_output_tokens_sum", **labels)] == 31
    assert page[sample_key("llm_d_epp_request_cached_tokens_sum", **labels)] == 512
    assert page[sample_key("llm_d_epp_request_ntpot_seconds_sum", **labels)] == pytest.approx(2.0 / 31)
    assert page[sample_key("llm_d_epp_request_streaming_tpot_seconds_sum", **labels)] == pytest.approx(1.5 / 30)
    assert page[sample_key("epp_estimated_prompt_tokens_total")] == 900


async def test_a_value_equal_to_a_bound_falls_into_its_bucket() -> None:
    metrics = Metrics()
    metrics.record_processing_duration(0.002)
    page = await read_page(metrics)
    name = "llm_d_epp_request_processing_duration_seconds_bucket"
    assert page[sample_key(name, le="0.001")] == 0
    assert page[sample_key(name, le="0.002")] == 1
    assert page[sample_key(name, le="+Inf")] == 1


async def test_bucket_bounds_are_formatted_as_in_go() -> None:
    metrics = Metrics()
    record_one_request(metrics)
    text, kind = await metrics.render_exposition()
    assert kind.startswith("text/plain; version=0.0.4")
    assert b'le="1"' in text
    assert b'le="1.048576e+06"' in text
    open_text, kind = await metrics.render_exposition(OPENMETRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert b'le="1.0"' in open_text


class StubPrefixIndex(Producer, PrefixCacheStatsProvider, type="approx-prefix-cache-producer"):
    """An index with 12 blocks, after two prompts."""

    def prefix_cache_stats(self) -> PrefixCacheStats:
        hit_ratio, hit_bytes = BucketHistogram(HIT_RATIO_BOUNDS), BucketHistogram(HIT_BYTES_BOUNDS)
        for ratio, size in ((0.25, 100), (1.0, 70_000)):
            hit_ratio.observe(ratio)
            hit_bytes.observe(size)
        return PrefixCacheStats(12, hit_ratio, hit_bytes)


class BrokenPrefixIndex(StubPrefixIndex, type="broken"):
    def prefix_cache_stats(self) -> PrefixCacheStats:
        raise RuntimeError("no statistics")


def test_the_plugin_uses_the_buckets_that_are_exposed() -> None:
    assert [definition.buckets for definition in PREFIX_METRICS] == [(), HIT_RATIO_BOUNDS, HIT_BYTES_BOUNDS]


async def test_the_exposition_is_valid_in_both_formats(pool: PoolCollector) -> None:
    metrics = Metrics(commit="abc", build_ref="v1", stream_metrics=True)
    metrics.registry.register(pool)
    metrics.register_open_streams(lambda: 7)
    errors: list[tuple[str, str]] = []
    plugins = {"broken": BrokenPrefixIndex(), "prefix": StubPrefixIndex()}
    metrics.registry.register(PrefixCacheCollector(plugins, lambda *error: errors.append(error)))
    errors.clear()  # registering collects once
    metrics.record_stream_end(0.2, "OK")
    record_one_request(metrics)
    metrics.record_rejection("m", "m", "team-b", 1, "ResourceExhausted")
    text, _ = await metrics.render_exposition()
    open_text, _ = await metrics.render_exposition(OPENMETRICS)
    plain = {family.name for family in parse_text(text.decode())}
    strict = {family.name for family in parse_openmetrics(open_text.decode())}
    assert plain == strict
    assert {"llm_d_epp_info", "llm_d_epp_extproc_streams_inflight", "epp_open_streams", "process_cpu_seconds"} <= plain
    assert errors == [("broken", "observer")] * 2
    page = await read_page(metrics)
    assert page[sample_key("llm_d_epp_extproc_streams_inflight")] == 7
    assert page[sample_key("inference_extension_prefix_indexer_size")] == 12
    labels = {"plugin_name": "prefix", "plugin_type": "approx-prefix-cache-producer"}
    assert page[sample_key("llm_d_epp_prefix_indexer_hit_ratio_bucket", **labels, le="0.5")] == 1
    assert page[sample_key("llm_d_epp_prefix_indexer_hit_ratio_sum", **labels)] == 1.25
    assert page[sample_key("inference_extension_prefix_indexer_hit_bytes_count")] == 2
    assert page[sample_key("llm_d_epp_extproc_streams_total", code="OK")] == 1


def sum_samples(page: Page, name: str) -> dict[str, float]:
    return {suffix: sum(value for (found, _), value in page.items() if found == name + suffix) for suffix in SUFFIXES}


SUFFIXES = ("", "_count", "_sum", "_bucket")


async def test_legacy_aliases_are_summed_over_the_labels_they_lack() -> None:
    metrics = Metrics()
    for model, fairness, priority in (("llama", "a", 0), ("llama", "b", 1), ("qwen", "a", 0)):
        record_one_request(metrics, model, fairness, priority)
        metrics.record_rejection(model, model, fairness, priority, "BadRequest")
        metrics.record_plugin_duration("Scorer", "queue-scorer", f"queue-{fairness}", 0.0001)
    page = await read_page(metrics)
    for definition in (*REQUEST_METRICS, *SCHEDULER_METRICS):
        if definition.alias:
            assert sum_samples(page, definition.alias.name) == sum_samples(page, definition.name)
    labels = {"model_name": "llama", "target_model_name": "llama"}
    assert page[sample_key("inference_objective_request_total", **labels, priority="0")] == 1
    assert page[sample_key("inference_objective_request_duration_seconds_count", **labels)] == 2
    assert page[sample_key("inference_objective_request_duration_seconds_bucket", **labels, le="2")] == 2
    attempts = {"status": "success", "target_model_name": "llama", "namespace": "default", "port": "8000"}
    assert page[sample_key("inference_extension_scheduler_attempts_total", **attempts, pod_name="pod-1")] == 2


async def test_running_requests_are_those_that_have_not_ended() -> None:
    metrics = Metrics()
    for _ in range(3):
        cells = metrics.record_routed_request("m", "m", "f", 0, 10, 1)
    cells.record_end(False, 0, RequestOutcome("disconnected", 0, 0.1))
    page = await read_page(metrics)
    assert page[sample_key("inference_objective_running_requests", model_name="m")] == 2


@pytest.mark.parametrize("cause", ["expired", "replaced"])
async def test_a_request_whose_end_was_not_observed_has_no_duration(cause: str) -> None:
    metrics = Metrics()
    metrics.record_routed_request("m", "m", "f", 0, 10, 1).record_end(
        False, 0, RequestOutcome(cause, duration_seconds=0.05)
    )
    page = await read_page(metrics)
    assert page[sample_key("inference_objective_running_requests", model_name="m")] == 0
    assert sum_samples(page, "llm_d_epp_request_duration_seconds")["_count"] == 0
    assert page[sample_key("epp_ended_total", cause=cause)] == 1


async def test_a_failed_scheduling_attempt_has_no_endpoint() -> None:
    metrics = Metrics()
    metrics.record_scheduling_attempt(0.001, "m", "", "", 0)
    page = await read_page(metrics)
    labels = {"status": "failure", "target_model_name": "m", "endpoint_name": "", "namespace": "", "port": ""}
    assert page[sample_key("llm_d_epp_scheduler_attempts_total", **labels)] == 1


async def test_the_series_of_a_removed_endpoint_are_removed() -> None:
    metrics = Metrics()
    metrics.record_scheduling_attempt(0.001, "m", "pod-1", "default", 8000)
    metrics.record_scheduling_attempt(0.001, "m", "pod-2", "default", 8000)
    metrics.remove_endpoint("pod-1")
    metrics.record_scheduling_attempt(0.001, "m", "pod-2", "default", 8000)
    page = await read_page(metrics)
    assert labels_of(page, "llm_d_epp_scheduler_attempts_total", "endpoint_name") == {"pod-2"}
    assert sum_samples(page, "llm_d_epp_scheduler_attempts_total")[""] == 2


def labels_of(page: Iterable[tuple[str, tuple[tuple[str, str], ...]]], name: str, label: str) -> set[str]:
    return {dict(labels)[label] for found, labels in page if found == name}


async def test_label_values_beyond_the_limit_become_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MODELS", 3)
    monkeypatch.setattr(module, "MAX_FAIRNESS_IDS", 2)
    metrics = Metrics()
    for i in range(10):
        metrics.record_routed_request(f"model-{i}", f"model-{i}", f"team-{i}", 0, 1, 1).record_end(False, 1, DONE)
        metrics.record_scheduling_attempt(0.001, f"model-{i}", "pod", "default", 1)
    page = await read_page(metrics)
    assert labels_of(page, "llm_d_epp_request_total", "model_name") == {"model-0", "model-1", "model-2", OVERFLOW_LABEL}
    assert labels_of(page, "llm_d_epp_request_total", "fairness_id") == {"team-0", "team-1", OVERFLOW_LABEL}
    assert len(labels_of(page, "llm_d_epp_scheduler_attempts_total", "target_model_name")) == 4
    assert sum_samples(page, "llm_d_epp_request_total")[""] == 10
    assert sum_samples(page, "llm_d_epp_request_running")[""] == 0


async def test_label_combinations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMBINATIONS", 4)
    metrics = Metrics()
    for i in range(5):
        for j in range(5):
            metrics.record_routed_request(f"model-{i}", f"model-{i}", f"team-{j}", 0, 1, 1)
    page = await read_page(metrics)
    series = [labels for name, labels in page if name == "llm_d_epp_request_total"]
    assert len(series) == 5
    assert sum_samples(page, "llm_d_epp_request_total")[""] == 25


async def test_a_metric_encoded_in_several_parts_is_one_family() -> None:
    metrics = Metrics()
    for i in range(20):
        record_one_request(metrics, f"model-{i}")
    text, _ = await metrics.render_exposition()
    assert text.count(b"# TYPE llm_d_epp_request_duration_seconds histogram") == 1
    open_text, _ = await metrics.render_exposition(OPENMETRICS)
    families = {family.name: family for family in parse_openmetrics(open_text.decode())}
    assert len(families["llm_d_epp_request_total".removesuffix("_total")].samples) == 20
    assert len(families["llm_d_epp_request_duration_seconds"].samples) == 20 * 38


async def test_plugin_errors_and_scrapes_are_counted() -> None:
    metrics = Metrics()
    metrics.record_plugin_error("my-scorer", "range")
    metrics.record_scrape(0.002)
    metrics.record_scrape_failure("metrics-data-source")
    metrics.record_scrape_failure("metrics-data-source", "core-metrics-extractor")
    page = await read_page(metrics)
    assert page[sample_key("epp_plugin_faults_total", plugin="my-scorer", kind="range")] == 1
    assert page[sample_key("epp_scrapes_total", outcome="success")] == 1
    assert page[sample_key("epp_scrapes_total", outcome="failure")] == 2
    assert page[sample_key("llm_d_epp_datalayer_poll_errors_total", source_type="metrics-data-source")] == 1
