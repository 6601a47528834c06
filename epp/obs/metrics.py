"""Metrics of requests, decisions, scrapes and streams: written at every request, read at every `/metrics`.

Where they differ from llm-d's metrics of the same names: a labelled histogram is exposed once it has an observation;
legacy names are sums computed when read, so both names always agree; series of endpoints that left the pool are
removed; label combinations that clients can create are bounded together (`MAX_COMBINATIONS`), not only label by label.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from epp.api import RequestOutcome
from epp.obs.metric_cells import (
    OVERFLOW_LABEL,
    HistogramCell,
    LabelLimiter,
    MetricDefinition,
    MetricVec,
    ValueCell,
    collect_values,
)
from epp.obs.metric_table import EPP_METRICS, REQUEST_METRICS, SCHEDULER_METRICS, STREAM_METRICS

MAX_MODELS = 1000  # as in llm-d
MAX_FAIRNESS_IDS = 1000  # as in llm-d
MAX_COMBINATIONS = 10_000
UNOBSERVED_CAUSES = ("expired", "replaced")
SAMPLES_PER_TURN = 250  # encoded in about a millisecond
_OPENMETRICS_END = b"# EOF\n"
_METADATA_LINES = re.compile(rb"\A(?:#.*\n)*")
_OPEN_STREAMS = ("llm_d_epp_extproc_streams_inflight", "epp_open_streams")


class _RequestCells:
    """The cells of one combination of model, target model, fairness id and priority.

    Implements `epp.requestcontrol.RequestMetrics` for all requests with these labels.
    """

    __slots__ = (
        "cached_tokens",
        "cell_of_cause",
        "duration",
        "input_tokens",
        "ntpot",
        "output_tokens",
        "record_inter_token_latency",
        "request_size",
        "requests",
        "response_size",
        "running",
        "tpot",
        "ttft",
        "ttft_streaming",
    )

    def __init__(
        self,
        values: Callable[[str], MetricVec[ValueCell]],
        histograms: Callable[[str], MetricVec[HistogramCell]],
        cell_of_cause: Callable[[str], ValueCell],
        *labels: str,
    ) -> None:
        self.requests = values("request_total").labels(*labels)
        self.running = values("request_running").labels(*labels)
        self.request_size = histograms("request_size_bytes").labels(*labels)
        self.response_size = histograms("response_size_bytes").labels(*labels)
        self.duration = histograms("request_duration_seconds").labels(*labels)
        self.input_tokens = histograms("request_input_tokens").labels(*labels)
        self.output_tokens = histograms("request_output_tokens").labels(*labels)
        self.cached_tokens = histograms("request_cached_tokens").labels(*labels)
        self.ntpot = histograms("request_ntpot_seconds").labels(*labels)
        self.tpot = histograms("request_streaming_tpot_seconds").labels(*labels)
        self.record_inter_token_latency = histograms("request_streaming_itl_seconds").labels(*labels).observe
        self.ttft = histograms("request_ttft_seconds").labels(*labels, "false")
        self.ttft_streaming = histograms("request_ttft_seconds").labels(*labels, "true")
        self.cell_of_cause = cell_of_cause

    def record_end(self, streaming: bool, response_bytes: int, outcome: RequestOutcome) -> None:
        """A routed request ended. If it expired or scrapes replaced it, its response is unknown and not recorded."""
        self.running.value -= 1
        self.cell_of_cause(outcome.cause).value += 1
        if outcome.cause in UNOBSERVED_CAUSES:
            return
        self.duration.observe(outcome.duration_seconds)
        self.response_size.observe(response_bytes)
        if outcome.ttft_seconds is not None:
            (self.ttft_streaming if streaming else self.ttft).observe(outcome.ttft_seconds)
        if outcome.prompt_tokens is not None:
            self.input_tokens.observe(outcome.prompt_tokens)
        if outcome.cached_tokens is not None:
            self.cached_tokens.observe(outcome.cached_tokens)
        if tokens := outcome.output_tokens:
            self.output_tokens.observe(tokens)
            self.ntpot.observe(outcome.duration_seconds / tokens)
            if streaming and tokens > 1 and outcome.ttft_seconds is not None:
                self.tpot.observe((outcome.duration_seconds - outcome.ttft_seconds) / (tokens - 1))


class Metrics:
    """All metrics but those computed at reading time, which further collectors in `registry` provide.

    Implements `epp.requestcontrol.SchedulingMetrics`. `stream_metrics`: llm-d's `--enable-grpc-stream-metrics`.
    """

    def __init__(self, *, commit: str = "", build_ref: str = "", stream_metrics: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._values: dict[str, MetricVec[ValueCell]] = {}
        self._histograms: dict[str, MetricVec[HistogramCell]] = {}
        stream_definitions = STREAM_METRICS if stream_metrics else ()
        for definition in (*REQUEST_METRICS, *SCHEDULER_METRICS, *EPP_METRICS, *stream_definitions):
            if definition.type == "histogram":
                self._histograms[definition.name] = MetricVec(definition, HistogramCell)
            elif definition.name not in _OPEN_STREAMS:
                self._values[definition.name] = MetricVec(definition, ValueCell)
        self._models = LabelLimiter(MAX_MODELS)
        self._fairness_ids = LabelLimiter(MAX_FAIRNESS_IDS)
        self._request_cells: dict[tuple[str, str, str, int], _RequestCells] = {}
        self._attempt_cells: dict[tuple[str, str, str, int], ValueCell] = {}
        self._plugin_cells: dict[tuple[str, str, str], HistogramCell] = {}
        self._scheduling_duration = self._llmd_histogram("scheduler_e2e_duration_seconds").labels()
        self._cell_of_cause = self._values["epp_ended_total"].labels
        self._estimated_tokens = self._values["epp_estimated_prompt_tokens_total"].labels()
        self._scrape_duration = self._histograms["epp_scrape_duration_seconds"].labels()
        self._scrapes = self._values["epp_scrapes_total"].labels("success")
        self._stream_duration = (
            self._llmd_histogram("extproc_stream_duration_seconds").labels() if stream_metrics else None
        )
        self.record_processing_duration = self._llmd_histogram("request_processing_duration_seconds").labels().observe
        self._values["llm_d_epp_info"].labels(commit, build_ref).value = 1
        self.registry.register(LazyCollector(self._collect_cells))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def record_routed_request(
        self, model: str, target_model: str, fairness_id: str, priority: int, body_bytes: int, prompt_tokens: int
    ) -> _RequestCells:
        """A request was routed; `prompt_tokens` is our estimate."""
        cells = self._request_cells.get((model, target_model, fairness_id, priority))
        if cells is None:
            cells = self._admit_request_cells(model, target_model, fairness_id, priority)
        cells.requests.value += 1
        cells.running.value += 1
        cells.request_size.observe(body_bytes)
        self._estimated_tokens.value += prompt_tokens
        return cells

    def record_rejection(self, model: str, target_model: str, fairness_id: str, priority: int, code: str) -> None:
        """A request was answered with an error."""
        labels = self._admit_labels(model, target_model, fairness_id)
        self._values["llm_d_epp_request_error_total"].labels(*labels, str(priority), code).value += 1

    def record_scheduling_attempt(
        self, seconds: float, target_model: str, endpoint: str, namespace: str, port: int
    ) -> None:
        """A scheduling cycle ended; an empty `endpoint` means that it failed."""
        self._scheduling_duration.observe(seconds)
        cell = self._attempt_cells.get((target_model, endpoint, namespace, port))
        if cell is None:
            cell = self._admit_attempt_cell(target_model, endpoint, namespace, port)
        cell.value += 1

    def record_plugin_duration(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        """One call of a plugin (sampled)."""
        cell = self._plugin_cells.get((extension_point, type, name))
        if cell is None:
            cell = self._llmd_histogram("plugin_duration_seconds").labels(extension_point, type, name)
            self._plugin_cells[extension_point, type, name] = cell
        cell.observe(seconds)

    def record_plugin_error(self, plugin: str, kind: str) -> None:
        """A plugin broke its contract."""
        self._values["epp_plugin_faults_total"].labels(plugin, kind).value += 1

    def record_scrape(self, seconds: float) -> None:
        """A scrape succeeded."""
        self._scrape_duration.observe(seconds)
        self._scrapes.value += 1

    def record_scrape_failure(self, source: str, extractor: str = "") -> None:
        """A scrape failed: the request itself, or, if `extractor` is given, the extraction of values from the page."""
        self._values["epp_scrapes_total"].labels("failure").value += 1
        if extractor:
            self._values["llm_d_epp_datalayer_extract_errors_total"].labels(source, extractor).value += 1
        else:
            self._values["llm_d_epp_datalayer_poll_errors_total"].labels(source).value += 1

    def record_stream_end(self, seconds: float, code: str) -> None:
        """An ext_proc stream ended; recorded only with `stream_metrics`."""
        if self._stream_duration is not None:
            self._stream_duration.observe(seconds)
            self._values["llm_d_epp_extproc_streams_total"].labels(code).value += 1

    def remove_endpoint(self, endpoint: str) -> None:
        """An endpoint left the pool; its series are removed."""
        self._values["llm_d_epp_scheduler_attempts_total"].remove_matching("endpoint_name", endpoint)
        for key in [key for key in self._attempt_cells if key[1] == endpoint]:
            del self._attempt_cells[key]

    def register_open_streams(self, count_open: Callable[[], int]) -> None:
        """`count_open` is called at every reading; it returns the number of open ext_proc streams."""
        stream_definitions = STREAM_METRICS if self._stream_duration is not None else ()
        for definition in (*EPP_METRICS, *stream_definitions):
            if definition.name in _OPEN_STREAMS:
                self.registry.register(LazyCollector(partial(_collect_value, definition, count_open)))

    async def render_exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, for an Accept header.

        Encoded a few samples a turn of the event loop, so that a large page delays no request.
        """
        encode, content_type = choose_encoder(accept)
        is_openmetrics = content_type.startswith("application/openmetrics-text")
        parts = []
        for metric in self.registry.collect():
            whole = metric if is_openmetrics or metric.type != "histogram" else _format_bounds_as_go(metric)
            for start in range(0, max(1, len(whole.samples)), SAMPLES_PER_TURN):
                part = Metric(whole.name, whole.documentation, whole.type)
                part.samples = whole.samples[start : start + SAMPLES_PER_TURN]
                text = encode(LazyCollector(partial(list, [part]))).removesuffix(_OPENMETRICS_END)
                parts.append(_METADATA_LINES.sub(b"", text) if start else text)
                await asyncio.sleep(0)
        if is_openmetrics:
            parts.append(_OPENMETRICS_END)
        return b"".join(parts), content_type

    def _collect_cells(self) -> Iterable[Metric]:
        for values in self._values.values():
            yield from values.collect()
        for histograms in self._histograms.values():
            yield from histograms.collect()

    def _llmd_value(self, name: str) -> MetricVec[ValueCell]:
        return self._values[f"llm_d_epp_{name}"]

    def _llmd_histogram(self, name: str) -> MetricVec[HistogramCell]:
        return self._histograms[f"llm_d_epp_{name}"]

    def _admit_labels(self, model: str, target_model: str, fairness_id: str) -> tuple[str, str, str]:
        models = self._models
        return models.admit(model), models.admit(target_model), self._fairness_ids.admit(fairness_id)

    def _admit_request_cells(self, model: str, target_model: str, fairness_id: str, priority: int) -> _RequestCells:
        known = self._request_cells
        key = (*self._admit_labels(model, target_model, fairness_id), priority)
        if key not in known and len(known) >= MAX_COMBINATIONS:
            key = (OVERFLOW_LABEL, OVERFLOW_LABEL, OVERFLOW_LABEL, 0)
        if key not in known:
            labels = (*key[:3], str(key[3]))
            known[key] = _RequestCells(self._llmd_value, self._llmd_histogram, self._cell_of_cause, *labels)
        return known[key]

    def _admit_attempt_cell(self, target_model: str, endpoint: str, namespace: str, port: int) -> ValueCell:
        status = "success" if endpoint else "failure"
        model = self._models.admit(target_model)
        attempts = self._values["llm_d_epp_scheduler_attempts_total"]
        cell = attempts.labels(status, model, endpoint, namespace, str(port) if endpoint else "")
        if model == target_model and len(self._attempt_cells) < MAX_COMBINATIONS:
            self._attempt_cells[target_model, endpoint, namespace, port] = cell
        return cell


def _format_bounds_as_go(metric: Metric) -> Metric:
    """`le="1"` where OpenMetrics has `le="1.0"`: llm-d's text format, which selectors on `le` rely on."""
    formatted = Metric(metric.name, metric.documentation, metric.type)
    for sample in metric.samples:
        labels = sample.labels
        if "le" in labels:
            labels = {**labels, "le": labels["le"].removesuffix(".0")}
        formatted.add_sample(sample.name, labels, sample.value)
    return formatted


def _collect_value(definition: MetricDefinition, read: Callable[[], float]) -> list[Metric]:
    return collect_values(definition, [((), read())])


class LazyCollector(Collector):
    """A collector whose metrics are those that `read` returns at every reading."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()
