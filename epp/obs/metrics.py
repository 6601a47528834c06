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

from epp.api import Ended
from epp.obs.metric_cells import OTHER, Histogram, Names, Number, Series, Spec, exposed
from epp.obs.metric_table import OURS, REQUESTS, SCHEDULER, STREAM

MAX_MODELS = 1000
UNSEEN = ("expired", "replaced")
MAX_FAIRNESS_IDS = 1000
MAX_COMBINATIONS = 10_000
_END = b"# EOF\n"
_COMMENTS = re.compile(rb"\A(?:#.*\n)*")
_PIECE = 250  # samples, about a millisecond
_OPEN_STREAMS = ("llm_d_epp_extproc_streams_inflight", "epp_open_streams")


class _Account:
    """The cells that one combination of model, target model, fairness id and priority writes to.

    It is the `epp.requestcontrol.interfaces.Account` of all its requests.
    """

    __slots__ = (
        "cached", "duration", "ends", "gap", "input", "ntpot", "output", "response", "running", "size", "total", "tpot",
        "ttft", "ttft_streaming",
    )  # fmt: skip

    def __init__(
        self,
        numbers: Callable[[str], Series[Number]],
        many: Callable[[str], Series[Histogram]],
        ends: Callable[[str], Number],
        *at: str,
    ) -> None:
        self.total = numbers("request_total").at(*at)
        self.running = numbers("request_running").at(*at)
        self.size = many("request_size_bytes").at(*at)
        self.response = many("response_size_bytes").at(*at)
        self.duration = many("request_duration_seconds").at(*at)
        self.input = many("request_input_tokens").at(*at)
        self.output = many("request_output_tokens").at(*at)
        self.cached = many("request_cached_tokens").at(*at)
        self.ntpot = many("request_ntpot_seconds").at(*at)
        self.tpot = many("request_streaming_tpot_seconds").at(*at)
        self.gap = many("request_streaming_itl_seconds").at(*at).observe
        self.ttft = many("request_ttft_seconds").at(*at, "false")
        self.ttft_streaming = many("request_ttft_seconds").at(*at, "true")
        self.ends = ends

    def ended(self, streaming: bool, response_bytes: int, how: Ended) -> None:
        """A routed request is over. Of one that expired, or that scrapes replaced, nothing but that is known."""
        self.running.value -= 1
        self.ends(how.cause).value += 1
        if how.cause in UNSEEN:
            return
        self.duration.observe(how.seconds)
        self.response.observe(response_bytes)
        if how.ttft_seconds is not None:
            (self.ttft_streaming if streaming else self.ttft).observe(how.ttft_seconds)
        if how.prompt_tokens is not None:
            self.input.observe(how.prompt_tokens)
        if how.cached_tokens is not None:
            self.cached.observe(how.cached_tokens)
        if how.output_tokens:
            self._observe_output(streaming, how, how.output_tokens)

    def _observe_output(self, streaming: bool, how: Ended, tokens: int) -> None:
        self.output.observe(tokens)
        self.ntpot.observe(how.seconds / tokens)
        if streaming and tokens > 1 and how.ttft_seconds is not None:
            self.tpot.observe((how.seconds - how.ttft_seconds) / (tokens - 1))


class Metrics:
    """The recorder of everything (`epp.requestcontrol.interfaces.Recorder`), and what `/metrics` shows."""

    def __init__(self, *, commit: str = "", build_ref: str = "", stream_metrics: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._numbers: dict[str, Series[Number]] = {}
        self._histograms: dict[str, Series[Histogram]] = {}
        for spec in (*REQUESTS, *SCHEDULER, *OURS, *(STREAM if stream_metrics else ())):
            if spec.kind == "histogram":
                self._histograms[spec.name] = Series(spec, Histogram)
            elif spec.name not in _OPEN_STREAMS:
                self._numbers[spec.name] = Series(spec, Number)
        self._models = Names(MAX_MODELS)
        self._fairness = Names(MAX_FAIRNESS_IDS)
        self._accounts: dict[tuple[str, str, str, int], _Account] = {}
        self._attempts: dict[tuple[str, str, str, int], Number] = {}
        self._plugins: dict[tuple[str, str, str], Histogram] = {}
        self._decisions = self._histogram("scheduler_e2e_duration_seconds")
        self._ends = self._numbers["epp_ended_total"].at
        self._estimated = self._numbers["epp_estimated_prompt_tokens_total"].at()
        self._scrapes = self._histograms["epp_scrape_duration_seconds"].at()
        self._scraped = self._numbers["epp_scrapes_total"].at("success")
        self._stream_lives = self._histogram("extproc_stream_duration_seconds") if stream_metrics else None
        self.request_processed = self._histogram("request_processing_duration_seconds").observe
        self._numbers["llm_d_epp_info"].at(commit, build_ref).value = 1
        self.registry.register(_Cells(self))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    # requests

    def routed(
        self, model: str, target_model: str, fairness_id: str, priority: int, body_bytes: int, prompt_tokens: int
    ) -> _Account:
        """A request was accepted and routed; `prompt_tokens` is our estimate."""
        account = self._accounts.get((model, target_model, fairness_id, priority))
        if account is None:
            account = self._account(model, target_model, fairness_id, priority)
        account.total.value += 1
        account.running.value += 1
        account.size.observe(body_bytes)
        self._estimated.value += prompt_tokens
        return account

    def rejected(self, model: str, target_model: str, fairness_id: str, priority: int, code: str) -> None:
        """A request got an error from us."""
        at = self._admitted(model, target_model, fairness_id, priority)
        self._numbers["llm_d_epp_request_error_total"].at(*at, code).value += 1

    # decisions

    def scheduled(self, seconds: float, target_model: str, endpoint: str, namespace: str, port: int) -> None:
        """A scheduling cycle ended; an empty `endpoint` is a failure."""
        self._decisions.observe(seconds)
        attempts = self._attempts.get((target_model, endpoint, namespace, port))
        if attempts is None:
            attempts = self._attempts_of(target_model, endpoint, namespace, port)
        attempts.value += 1

    def plugin(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        """One plugin call took this long (sampled)."""
        cell = self._plugins.get((extension_point, type, name))
        if cell is None:
            cell = self._histograms["llm_d_epp_plugin_duration_seconds"].at(extension_point, type, name)
            self._plugins[extension_point, type, name] = cell
        cell.observe(seconds)

    def fault(self, plugin: str, kind: str) -> None:
        """A plugin broke its contract."""
        self._numbers["epp_plugin_faults_total"].at(plugin, kind).value += 1

    # endpoints and streams

    def scraped(self, seconds: float) -> None:
        """One scrape worked."""
        self._scrapes.observe(seconds)
        self._scraped.value += 1

    def scrape_failed(self, source: str, extractor: str = "") -> None:
        """One scrape failed: the poll itself, or, with `extractor`, the reading of what came."""
        self._numbers["epp_scrapes_total"].at("failure").value += 1
        if extractor:
            self._numbers["llm_d_epp_datalayer_extract_errors_total"].at(source, extractor).value += 1
        else:
            self._numbers["llm_d_epp_datalayer_poll_errors_total"].at(source).value += 1

    def forget(self, endpoint: str) -> None:
        """The endpoint left the pool; its series go."""
        self._numbers["llm_d_epp_scheduler_attempts_total"].drop("endpoint_name", endpoint)
        for key in [key for key in self._attempts if key[1] == endpoint]:
            del self._attempts[key]

    def stream_ended(self, seconds: float, code: str) -> None:
        """An ext_proc stream ended; counted with `--enable-grpc-stream-metrics`."""
        if self._stream_lives is not None:
            self._stream_lives.observe(seconds)
            self._numbers["llm_d_epp_extproc_streams_total"].at(code).value += 1

    # reading

    def show_streams(self, opened: Callable[[], int]) -> None:
        """`opened` tells the number of open ext_proc streams."""
        specs = (*OURS, *(STREAM if self._stream_lives is not None else ()))
        for spec in specs:
            if spec.name in _OPEN_STREAMS:
                self.registry.register(Late(partial(_read_one, spec, opened)))

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, a piece in each turn of the event loop: a large page delays no request."""
        encode, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith("application/openmetrics-text")
        parts = []
        for metric in self.registry.collect():
            one = metric if openmetrics or metric.type != "histogram" else _as_go_writes(metric)
            for start in range(0, max(1, len(one.samples)), _PIECE):
                piece = Metric(one.name, one.documentation, one.type)
                piece.samples = one.samples[start : start + _PIECE]
                text = encode(Late(partial(list, [piece]))).removesuffix(_END)
                parts.append(_COMMENTS.sub(b"", text) if start else text)
                await asyncio.sleep(0)
        if openmetrics:
            parts.append(_END)
        return b"".join(parts), content_type

    def series(self) -> Iterable[Series[Number] | Series[Histogram]]:
        """All that is kept in cells."""
        return (*self._numbers.values(), *self._histograms.values())

    def _number(self, name: str) -> Series[Number]:
        return self._numbers[f"llm_d_epp_{name}"]

    def _many(self, name: str) -> Series[Histogram]:
        return self._histograms[f"llm_d_epp_{name}"]

    def _histogram(self, name: str) -> Histogram:
        return self._many(name).at()

    def _admitted(self, model: str, target: str, fairness_id: str, priority: int) -> tuple[str, str, str, str]:
        models = self._models
        return models.admit(model), models.admit(target), self._fairness.admit(fairness_id), str(priority)

    def _account(self, model: str, target: str, fairness_id: str, priority: int) -> _Account:
        known = self._accounts
        *names, _ = self._admitted(model, target, fairness_id, priority)
        key = (names[0], names[1], names[2], priority)
        if key not in known and len(known) >= MAX_COMBINATIONS:
            key = (OTHER, OTHER, OTHER, 0)
        if key not in known:
            known[key] = _Account(self._number, self._many, self._ends, *key[:3], str(key[3]))
        return known[key]

    def _attempts_of(self, target_model: str, endpoint: str, namespace: str, port: int) -> Number:
        status = "success" if endpoint else "failure"
        model = self._models.admit(target_model)
        series = self._numbers["llm_d_epp_scheduler_attempts_total"]
        cell = series.at(status, model, endpoint, namespace, str(port) if endpoint else "")
        if model == target_model and len(self._attempts) < MAX_COMBINATIONS:
            self._attempts[target_model, endpoint, namespace, port] = cell
        return cell


def _as_go_writes(metric: Metric) -> Metric:
    """`le="1"` where OpenMetrics has `le="1.0"`: the text format of llm-d, which selectors on `le` rely on."""
    plain = Metric(metric.name, metric.documentation, metric.type)
    for sample in metric.samples:
        labels = sample.labels
        if "le" in labels:
            labels = {**labels, "le": labels["le"].removesuffix(".0")}
        plain.add_sample(sample.name, labels, sample.value)
    return plain


def _read_one(spec: Spec, read: Callable[[], float]) -> list[Metric]:
    return exposed(spec, [((), read())])


class Late(Collector):
    """Metrics that are made when they are read."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """What `read` gives now."""
        return self._read()


class _Cells(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        for series in self._metrics.series():
            yield from series.exposed()
