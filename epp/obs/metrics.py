"""Numbers about requests and decisions, written at every request and read at every `/metrics`.

Differences from llm-d's metrics of the same names: a histogram is exposed once it has an observation; twins are sums
taken when read, so both names always agree; series of endpoints that left the pool go; label combinations of client
origin are bounded together (`MAX_COMBINATIONS`), not only one label at a time.
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

MAX_MODELS = 1000
UNOBSERVED_CAUSES = ("expired", "replaced")
MAX_FAIRNESS_IDS = 1000
MAX_COMBINATIONS = 10_000
_END = b"# EOF\n"
_COMMENTS = re.compile(rb"\A(?:#.*\n)*")
_PIECE = 250  # samples, about a millisecond
_OPEN_STREAMS = ("llm_d_epp_extproc_streams_inflight", "epp_open_streams")


class _RequestCells:
    """The cells that one combination of model, target model, fairness id and priority writes to.

    It is the `epp.requestcontrol.interfaces.Account` of all its requests.
    """

    __slots__ = (
        "cached",
        "duration",
        "ends",
        "input",
        "ntpot",
        "output",
        "record_inter_token_latency",
        "response",
        "running",
        "size",
        "total",
        "tpot",
        "ttft",
        "ttft_streaming",
    )  # fmt: skip

    def __init__(
        self,
        numbers: Callable[[str], MetricVec[ValueCell]],
        many: Callable[[str], MetricVec[HistogramCell]],
        ends: Callable[[str], ValueCell],
        *at: str,
    ) -> None:
        self.total = numbers("request_total").labels(*at)
        self.running = numbers("request_running").labels(*at)
        self.size = many("request_size_bytes").labels(*at)
        self.response = many("response_size_bytes").labels(*at)
        self.duration = many("request_duration_seconds").labels(*at)
        self.input = many("request_input_tokens").labels(*at)
        self.output = many("request_output_tokens").labels(*at)
        self.cached = many("request_cached_tokens").labels(*at)
        self.ntpot = many("request_ntpot_seconds").labels(*at)
        self.tpot = many("request_streaming_tpot_seconds").labels(*at)
        self.record_inter_token_latency = many("request_streaming_itl_seconds").labels(*at).observe
        self.ttft = many("request_ttft_seconds").labels(*at, "false")
        self.ttft_streaming = many("request_ttft_seconds").labels(*at, "true")
        self.ends = ends

    def record_end(self, streaming: bool, response_bytes: int, how: RequestOutcome) -> None:
        """A routed request is over. Of one that expired, or that scrapes replaced, nothing but that is known."""
        self.running.value -= 1
        self.ends(how.cause).value += 1
        if how.cause in UNOBSERVED_CAUSES:
            return
        self.duration.observe(how.duration_seconds)
        self.response.observe(response_bytes)
        if how.ttft_seconds is not None:
            (self.ttft_streaming if streaming else self.ttft).observe(how.ttft_seconds)
        if how.prompt_tokens is not None:
            self.input.observe(how.prompt_tokens)
        if how.cached_tokens is not None:
            self.cached.observe(how.cached_tokens)
        if how.output_tokens:
            self._observe_output(streaming, how, how.output_tokens)

    def _observe_output(self, streaming: bool, how: RequestOutcome, tokens: int) -> None:
        self.output.observe(tokens)
        self.ntpot.observe(how.duration_seconds / tokens)
        if streaming and tokens > 1 and how.ttft_seconds is not None:
            self.tpot.observe((how.duration_seconds - how.ttft_seconds) / (tokens - 1))


class Metrics:
    """The recorder of everything (`epp.requestcontrol.interfaces.Recorder`), and what `/metrics` shows."""

    def __init__(self, *, commit: str = "", build_ref: str = "", stream_metrics: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._numbers: dict[str, MetricVec[ValueCell]] = {}
        self._histograms: dict[str, MetricVec[HistogramCell]] = {}
        for spec in (*REQUEST_METRICS, *SCHEDULER_METRICS, *EPP_METRICS, *(STREAM_METRICS if stream_metrics else ())):
            if spec.type == "histogram":
                self._histograms[spec.name] = MetricVec(spec, HistogramCell)
            elif spec.name not in _OPEN_STREAMS:
                self._numbers[spec.name] = MetricVec(spec, ValueCell)
        self._models = LabelLimiter(MAX_MODELS)
        self._fairness = LabelLimiter(MAX_FAIRNESS_IDS)
        self._accounts: dict[tuple[str, str, str, int], _RequestCells] = {}
        self._attempts: dict[tuple[str, str, str, int], ValueCell] = {}
        self._plugins: dict[tuple[str, str, str], HistogramCell] = {}
        self._decisions = self._histogram("scheduler_e2e_duration_seconds")
        self._ends = self._numbers["epp_ended_total"].labels
        self._estimated = self._numbers["epp_estimated_prompt_tokens_total"].labels()
        self._scrapes = self._histograms["epp_scrape_duration_seconds"].labels()
        self._scraped = self._numbers["epp_scrapes_total"].labels("success")
        self._stream_lives = self._histogram("extproc_stream_duration_seconds") if stream_metrics else None
        self.record_processing_duration = self._histogram("request_processing_duration_seconds").observe
        self._numbers["llm_d_epp_info"].labels(commit, build_ref).value = 1
        self.registry.register(_CellCollector(self))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    # requests

    def record_routed_request(
        self, model: str, target_model: str, fairness_id: str, priority: int, body_bytes: int, prompt_tokens: int
    ) -> _RequestCells:
        """A request was accepted and routed; `prompt_tokens` is our estimate."""
        account = self._accounts.get((model, target_model, fairness_id, priority))
        if account is None:
            account = self._account(model, target_model, fairness_id, priority)
        account.total.value += 1
        account.running.value += 1
        account.size.observe(body_bytes)
        self._estimated.value += prompt_tokens
        return account

    def record_rejection(self, model: str, target_model: str, fairness_id: str, priority: int, code: str) -> None:
        """A request got an error from us."""
        at = self._admitted(model, target_model, fairness_id, priority)
        self._numbers["llm_d_epp_request_error_total"].labels(*at, code).value += 1

    # decisions

    def record_scheduling_attempt(
        self, seconds: float, target_model: str, endpoint: str, namespace: str, port: int
    ) -> None:
        """A scheduling cycle ended; an empty `endpoint` is a failure."""
        self._decisions.observe(seconds)
        attempts = self._attempts.get((target_model, endpoint, namespace, port))
        if attempts is None:
            attempts = self._attempts_of(target_model, endpoint, namespace, port)
        attempts.value += 1

    def record_plugin_duration(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        """One plugin call took this long (sampled)."""
        cell = self._plugins.get((extension_point, type, name))
        if cell is None:
            cell = self._histograms["llm_d_epp_plugin_duration_seconds"].labels(extension_point, type, name)
            self._plugins[extension_point, type, name] = cell
        cell.observe(seconds)

    def record_plugin_error(self, plugin: str, kind: str) -> None:
        """A plugin broke its contract."""
        self._numbers["epp_plugin_faults_total"].labels(plugin, kind).value += 1

    # endpoints and streams

    def record_scrape(self, seconds: float) -> None:
        """One scrape worked."""
        self._scrapes.observe(seconds)
        self._scraped.value += 1

    def record_scrape_failure(self, source: str, extractor: str = "") -> None:
        """One scrape failed: the poll itself, or, with `extractor`, the reading of what came."""
        self._numbers["epp_scrapes_total"].labels("failure").value += 1
        if extractor:
            self._numbers["llm_d_epp_datalayer_extract_errors_total"].labels(source, extractor).value += 1
        else:
            self._numbers["llm_d_epp_datalayer_poll_errors_total"].labels(source).value += 1

    def remove_endpoint(self, endpoint: str) -> None:
        """The endpoint left the pool; its series go."""
        self._numbers["llm_d_epp_scheduler_attempts_total"].remove_matching("endpoint_name", endpoint)
        for key in [key for key in self._attempts if key[1] == endpoint]:
            del self._attempts[key]

    def record_stream_end(self, seconds: float, code: str) -> None:
        """An ext_proc stream ended; counted with `--enable-grpc-stream-metrics`."""
        if self._stream_lives is not None:
            self._stream_lives.observe(seconds)
            self._numbers["llm_d_epp_extproc_streams_total"].labels(code).value += 1

    # reading

    def register_open_streams(self, opened: Callable[[], int]) -> None:
        """`opened` tells the number of open ext_proc streams."""
        specs = (*EPP_METRICS, *(STREAM_METRICS if self._stream_lives is not None else ()))
        for spec in specs:
            if spec.name in _OPEN_STREAMS:
                self.registry.register(LazyCollector(partial(_collect_value, spec, opened)))

    async def render_exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, a piece in each turn of the event loop: a large page delays no request."""
        encode, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith("application/openmetrics-text")
        parts = []
        for metric in self.registry.collect():
            one = metric if openmetrics or metric.type != "histogram" else _format_bounds_as_go(metric)
            for start in range(0, max(1, len(one.samples)), _PIECE):
                piece = Metric(one.name, one.documentation, one.type)
                piece.samples = one.samples[start : start + _PIECE]
                text = encode(LazyCollector(partial(list, [piece]))).removesuffix(_END)
                parts.append(_COMMENTS.sub(b"", text) if start else text)
                await asyncio.sleep(0)
        if openmetrics:
            parts.append(_END)
        return b"".join(parts), content_type

    def list_metric_vecs(self) -> Iterable[MetricVec[ValueCell] | MetricVec[HistogramCell]]:
        """All that is kept in cells."""
        return (*self._numbers.values(), *self._histograms.values())

    def _number(self, name: str) -> MetricVec[ValueCell]:
        return self._numbers[f"llm_d_epp_{name}"]

    def _many(self, name: str) -> MetricVec[HistogramCell]:
        return self._histograms[f"llm_d_epp_{name}"]

    def _histogram(self, name: str) -> HistogramCell:
        return self._many(name).labels()

    def _admitted(self, model: str, target: str, fairness_id: str, priority: int) -> tuple[str, str, str, str]:
        models = self._models
        return models.admit(model), models.admit(target), self._fairness.admit(fairness_id), str(priority)

    def _account(self, model: str, target: str, fairness_id: str, priority: int) -> _RequestCells:
        known = self._accounts
        *names, _ = self._admitted(model, target, fairness_id, priority)
        key = (names[0], names[1], names[2], priority)
        if key not in known and len(known) >= MAX_COMBINATIONS:
            key = (OVERFLOW_LABEL, OVERFLOW_LABEL, OVERFLOW_LABEL, 0)
        if key not in known:
            known[key] = _RequestCells(self._number, self._many, self._ends, *key[:3], str(key[3]))
        return known[key]

    def _attempts_of(self, target_model: str, endpoint: str, namespace: str, port: int) -> ValueCell:
        status = "success" if endpoint else "failure"
        model = self._models.admit(target_model)
        series = self._numbers["llm_d_epp_scheduler_attempts_total"]
        cell = series.labels(status, model, endpoint, namespace, str(port) if endpoint else "")
        if model == target_model and len(self._attempts) < MAX_COMBINATIONS:
            self._attempts[target_model, endpoint, namespace, port] = cell
        return cell


def _format_bounds_as_go(metric: Metric) -> Metric:
    """`le="1"` where OpenMetrics has `le="1.0"`: the text format of llm-d, which selectors on `le` rely on."""
    plain = Metric(metric.name, metric.documentation, metric.type)
    for sample in metric.samples:
        labels = sample.labels
        if "le" in labels:
            labels = {**labels, "le": labels["le"].removesuffix(".0")}
        plain.add_sample(sample.name, labels, sample.value)
    return plain


def _collect_value(spec: MetricDefinition, read: Callable[[], float]) -> list[Metric]:
    return collect_values(spec, [((), read())])


class LazyCollector(Collector):
    """Metrics that are made when they are read."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """What `read` gives now."""
        return self._read()


class _CellCollector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        for series in self._metrics.list_metric_vecs():
            yield from series.collect()
