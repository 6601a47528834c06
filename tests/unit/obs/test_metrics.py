"""Numbers in, a page out: read back with prometheus_client's own parsers."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from epp.api import Ended
from epp.obs import metrics as module
from epp.obs.metric_cells import OTHER
from epp.obs.metric_table import PREFIX, REQUESTS, SCHEDULER
from epp.obs.metrics import Metrics
from epp.obs.pool_metrics import PoolView
from epp.obs.prefix_metrics import PrefixView
from scorers.producers.approx_prefix_cache import BYTES_BOUNDS, RATIO_BOUNDS
from scorers.producers.approx_prefix_cache import Histogram as PluginHistogram

OPENMETRICS = "application/openmetrics-text;version=1.0.0;charset=utf-8"
DONE = Ended("completed", 200, seconds=2.0, ttft_seconds=0.5)
ANSWERED = msgspec.structs.replace(DONE, prompt_tokens=910, cached_tokens=512, output_tokens=31)

Page = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def key(name: str, /, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


async def read(metrics: Metrics) -> Page:
    body, _ = await metrics.exposition()
    return {
        key(sample.name, **sample.labels): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def one_request(metrics: Metrics, model: str = "llama", fairness: str = "team-a", priority: int = 0) -> None:
    metrics.scheduled(0.0003, model, "pod-1", "default", 8000)
    account = metrics.routed(model, model, fairness, priority, body_bytes=4000, prompt_tokens=900)
    account.ended(True, 30_000, ANSWERED)


async def test_one_request_shows_up_everywhere() -> None:
    metrics = Metrics()
    one_request(metrics)
    page = await read(metrics)
    at = {"model_name": "llama", "target_model_name": "llama", "fairness_id": "team-a", "priority": "0"}
    assert page[key("llm_d_epp_request_total", **at)] == 1
    assert page[key("llm_d_epp_request_running", **at)] == 0
    assert page[key("llm_d_epp_request_size_bytes_sum", **at)] == 4000
    assert page[key("llm_d_epp_response_size_bytes_sum", **at)] == 30_000
    assert page[key("llm_d_epp_request_duration_seconds_sum", **at)] == 2.0
    assert page[key("llm_d_epp_request_ttft_seconds_sum", **at, streaming="true")] == 0.5
    assert page[key("llm_d_epp_request_input_tokens_sum", **at)] == 910
    assert page[key("llm_d_epp_request_output_tokens_sum", **at)] == 31
    assert page[key("llm_d_epp_request_cached_tokens_sum", **at)] == 512
    assert page[key("llm_d_epp_request_ntpot_seconds_sum", **at)] == pytest.approx(2.0 / 31)
    assert page[key("llm_d_epp_request_streaming_tpot_seconds_sum", **at)] == pytest.approx(1.5 / 30)
    assert page[key("epp_estimated_prompt_tokens_total")] == 900


async def test_a_value_on_a_bound_counts_as_below_it() -> None:
    metrics = Metrics()
    metrics.request_processed(0.002)
    page = await read(metrics)
    name = "llm_d_epp_request_processing_duration_seconds_bucket"
    assert page[key(name, le="0.001")] == 0
    assert page[key(name, le="0.002")] == 1
    assert page[key(name, le="+Inf")] == 1


async def test_bounds_are_written_as_go_writes_them() -> None:
    metrics = Metrics()
    one_request(metrics)
    text, kind = await metrics.exposition()
    assert kind.startswith("text/plain; version=0.0.4")
    assert b'le="1"' in text
    assert b'le="1.048576e+06"' in text
    open_text, kind = await metrics.exposition(OPENMETRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert b'le="1.0"' in open_text


class Stats:
    """An index that holds 12 blocks, after two prompts."""

    def __init__(self) -> None:
        self.blocks = 12
        self.hit_ratio = counted(RATIO_BOUNDS, 0.25, 1.0)
        self.hit_bytes = counted(BYTES_BOUNDS, 100, 70_000)


def counted(bounds: tuple[float, ...], *values: float) -> PluginHistogram:
    made = PluginHistogram(bounds)
    for value in values:
        made.observe(value)
    return made


def prefix_view() -> PrefixView:
    return PrefixView([("prefix", "approx-prefix-cache-producer", Stats)])


def test_a_plugin_counts_by_the_bounds_that_are_exposed() -> None:
    assert [spec.buckets for spec in PREFIX] == [(), RATIO_BOUNDS, BYTES_BOUNDS]


async def test_the_page_is_valid_in_both_formats(pool: PoolView) -> None:
    metrics = Metrics(commit="abc", build_ref="v1", stream_metrics=True)
    metrics.registry.register(pool)
    metrics.show_streams(lambda: 7)
    metrics.registry.register(prefix_view())
    metrics.stream_ended(0.2, "OK")
    one_request(metrics)
    metrics.rejected("m", "m", "team-b", 1, "ResourceExhausted")
    text, _ = await metrics.exposition()
    open_text, _ = await metrics.exposition(OPENMETRICS)
    plain = {family.name for family in parse_text(text.decode())}
    strict = {family.name for family in parse_openmetrics(open_text.decode())}
    assert plain == strict
    assert {"llm_d_epp_info", "llm_d_epp_extproc_streams_inflight", "epp_open_streams", "process_cpu_seconds"} <= plain
    page = await read(metrics)
    assert page[key("llm_d_epp_extproc_streams_inflight")] == 7
    assert page[key("inference_extension_prefix_indexer_size")] == 12
    at = {"plugin_name": "prefix", "plugin_type": "approx-prefix-cache-producer"}
    assert page[key("llm_d_epp_prefix_indexer_hit_ratio_bucket", **at, le="0.5")] == 1
    assert page[key("llm_d_epp_prefix_indexer_hit_ratio_sum", **at)] == 1.25
    assert page[key("inference_extension_prefix_indexer_hit_bytes_count")] == 2
    assert page[key("llm_d_epp_extproc_streams_total", code="OK")] == 1


def totals(page: Page, name: str) -> dict[str, float]:
    return {suffix: sum(value for (found, _), value in page.items() if found == name + suffix) for suffix in SUFFIXES}


SUFFIXES = ("", "_count", "_sum", "_bucket")


async def test_twins_show_the_same_numbers_summed_over_the_labels_they_lack() -> None:
    metrics = Metrics()
    for model, fairness, priority in (("llama", "a", 0), ("llama", "b", 1), ("qwen", "a", 0)):
        one_request(metrics, model, fairness, priority)
        metrics.rejected(model, model, fairness, priority, "BadRequest")
        metrics.plugin("Scorer", "queue-scorer", f"queue-{fairness}", 0.0001)
    page = await read(metrics)
    for spec in (*REQUESTS, *SCHEDULER):
        if spec.twin:
            assert totals(page, spec.twin.name) == totals(page, spec.name), spec.name
    at = {"model_name": "llama", "target_model_name": "llama"}
    assert page[key("inference_objective_request_total", **at, priority="0")] == 1
    assert page[key("inference_objective_request_duration_seconds_count", **at)] == 2
    assert page[key("inference_objective_request_duration_seconds_bucket", **at, le="2")] == 2
    attempts = {"status": "success", "target_model_name": "llama", "namespace": "default", "port": "8000"}
    assert page[key("inference_extension_scheduler_attempts_total", **attempts, pod_name="pod-1")] == 2


async def test_running_requests_are_those_routed_and_not_over() -> None:
    metrics = Metrics()
    for _ in range(3):
        account = metrics.routed("m", "m", "f", 0, 10, 1)
    account.ended(False, 0, Ended("disconnected", 0, 0.1))
    page = await read(metrics)
    assert page[key("inference_objective_running_requests", model_name="m")] == 2


@pytest.mark.parametrize("cause", ["expired", "replaced"])
async def test_a_request_whose_end_nobody_saw_has_no_duration(cause: str) -> None:
    metrics = Metrics()
    metrics.routed("m", "m", "f", 0, 10, 1).ended(False, 0, Ended(cause, seconds=0.05))
    page = await read(metrics)
    assert page[key("inference_objective_running_requests", model_name="m")] == 0
    assert totals(page, "llm_d_epp_request_duration_seconds")["_count"] == 0
    assert page[key("epp_ended_total", cause=cause)] == 1


async def test_a_failed_decision_has_no_endpoint() -> None:
    metrics = Metrics()
    metrics.scheduled(0.001, "m", "", "", 0)
    page = await read(metrics)
    at = {"status": "failure", "target_model_name": "m", "endpoint_name": "", "namespace": "", "port": ""}
    assert page[key("llm_d_epp_scheduler_attempts_total", **at)] == 1


async def test_series_of_an_endpoint_go_with_it() -> None:
    metrics = Metrics()
    metrics.scheduled(0.001, "m", "pod-1", "default", 8000)
    metrics.scheduled(0.001, "m", "pod-2", "default", 8000)
    metrics.forget("pod-1")
    metrics.scheduled(0.001, "m", "pod-2", "default", 8000)
    page = await read(metrics)
    assert labels_of(page, "llm_d_epp_scheduler_attempts_total", "endpoint_name") == {"pod-2"}
    assert totals(page, "llm_d_epp_scheduler_attempts_total")[""] == 2


def labels_of(page: Iterable[tuple[str, tuple[tuple[str, str], ...]]], name: str, label: str) -> set[str]:
    return {dict(labels)[label] for found, labels in page if found == name}


async def test_names_beyond_the_limit_become_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MODELS", 3)
    monkeypatch.setattr(module, "MAX_FAIRNESS_IDS", 2)
    metrics = Metrics()
    for i in range(10):
        metrics.routed(f"model-{i}", f"model-{i}", f"team-{i}", 0, 1, 1).ended(False, 1, DONE)
        metrics.scheduled(0.001, f"model-{i}", "pod", "default", 1)
    page = await read(metrics)
    assert labels_of(page, "llm_d_epp_request_total", "model_name") == {"model-0", "model-1", "model-2", OTHER}
    assert labels_of(page, "llm_d_epp_request_total", "fairness_id") == {"team-0", "team-1", OTHER}
    assert len(labels_of(page, "llm_d_epp_scheduler_attempts_total", "target_model_name")) == 4
    assert totals(page, "llm_d_epp_request_total")[""] == 10
    assert totals(page, "llm_d_epp_request_running")[""] == 0


async def test_combinations_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMBINATIONS", 4)
    metrics = Metrics()
    for i in range(5):
        for j in range(5):
            metrics.routed(f"model-{i}", f"model-{i}", f"team-{j}", 0, 1, 1)
    page = await read(metrics)
    series = [labels for name, labels in page if name == "llm_d_epp_request_total"]
    assert len(series) == 5
    assert totals(page, "llm_d_epp_request_total")[""] == 25


async def test_a_large_metric_is_one_metric_though_written_in_pieces() -> None:
    metrics = Metrics()
    for i in range(20):
        one_request(metrics, f"model-{i}")
    text, _ = await metrics.exposition()
    assert text.count(b"# TYPE llm_d_epp_request_duration_seconds histogram") == 1
    open_text, _ = await metrics.exposition(OPENMETRICS)
    families = {family.name: family for family in parse_openmetrics(open_text.decode())}
    assert len(families["llm_d_epp_request_total".removesuffix("_total")].samples) == 20
    assert len(families["llm_d_epp_request_duration_seconds"].samples) == 20 * 38


async def test_faults_and_scrapes_are_counted() -> None:
    metrics = Metrics()
    metrics.fault("my-scorer", "range")
    metrics.scraped(0.002)
    metrics.scrape_failed("metrics-data-source")
    metrics.scrape_failed("metrics-data-source", "core-metrics-extractor")
    page = await read(metrics)
    assert page[key("epp_plugin_faults_total", plugin="my-scorer", kind="range")] == 1
    assert page[key("epp_scrapes_total", outcome="success")] == 1
    assert page[key("epp_scrapes_total", outcome="failure")] == 2
    assert page[key("llm_d_epp_datalayer_poll_errors_total", source_type="metrics-data-source")] == 1
