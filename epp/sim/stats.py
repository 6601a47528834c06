"""Counters and histograms of an engine, under the names of vLLM's metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from epp.sim.request import SimRequest

INFINITY = float("inf")


def _parse_bounds(text: str) -> tuple[float, ...]:
    return tuple(float(bound) for bound in text.split())


TOKEN_COUNT_BOUNDS = _parse_bounds("1 2 5 10 20 50 100 200 500 1000 2000")
ITERATION_TOKEN_BOUNDS = _parse_bounds("1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384")
TTFT_BOUNDS = _parse_bounds(".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560")
INTER_TOKEN_BOUNDS = _parse_bounds(".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80")
REQUEST_LATENCY_BOUNDS = _parse_bounds(".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680")
BLOCK_AGE_BOUNDS = _parse_bounds(".001 .002 .005 .01 .02 .05 .1 .2 .5 1 2 5 10 20 30 60 120 300 600 1200 1800")
SMALL_COUNT_BOUNDS = _parse_bounds("1 2 5 10 20")
PREEMPTION_BOUNDS = _parse_bounds("1 2 3 4 5 10 20")


class SimHistogram:
    """A histogram with counts by bucket, not cumulative; the last bucket is unbounded. `count`: observations so far."""

    __slots__ = ("bounds", "count", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = (*bounds, INFINITY)
        self.counts = [0] * len(self.bounds)
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times
        self.count += times


class EngineStats:
    """Everything counted since the engine started.

    Tokens are counted as by vLLM 0.32 (vllm/v1/metrics/stats.py): prefix queries and hits at a request's first
    admission, not again after a preemption; prompt tokens with its first output token; the tokens of an iteration are
    the computed prompt tokens of requests that got their first token, and all output tokens.
    """

    def __init__(self) -> None:
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.preemptions = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generation_tokens = 0
        self.admission_rejections = 0
        self.finished_requests = {"stop": 0, "length": 0, "abort": 0, "error": 0, "repetition": 0}
        self.lora_states: dict[tuple[str, str], float] = {}  # (running, waiting) -> when last so
        self.iteration_tokens = SimHistogram(ITERATION_TOKEN_BOUNDS)
        self.request_prompt_tokens = SimHistogram(TOKEN_COUNT_BOUNDS)
        self.request_generation_tokens = SimHistogram(TOKEN_COUNT_BOUNDS)
        self.request_max_generation_tokens = SimHistogram(TOKEN_COUNT_BOUNDS)
        self.request_params_n = SimHistogram(SMALL_COUNT_BOUNDS)
        self.request_params_max_tokens = SimHistogram(TOKEN_COUNT_BOUNDS)
        self.time_to_first_token = SimHistogram(TTFT_BOUNDS)
        self.inter_token_latency = SimHistogram(INTER_TOKEN_BOUNDS)
        self.time_per_output_token = SimHistogram(INTER_TOKEN_BOUNDS)
        self.e2e_request_latency = SimHistogram(REQUEST_LATENCY_BOUNDS)
        self.request_queue_time = SimHistogram(REQUEST_LATENCY_BOUNDS)
        self.request_inference_time = SimHistogram(REQUEST_LATENCY_BOUNDS)
        self.request_prefill_time = SimHistogram(REQUEST_LATENCY_BOUNDS)
        self.request_decode_time = SimHistogram(REQUEST_LATENCY_BOUNDS)
        self.request_preemptions = SimHistogram(PREEMPTION_BOUNDS)
        self.prefill_computed_tokens = SimHistogram(TOKEN_COUNT_BOUNDS)
        self.kv_block_age = SimHistogram(BLOCK_AGE_BOUNDS)  # stays empty, as without `--kv-cache-metrics`

    def record_admission(self, request: SimRequest) -> None:
        """A request was scheduled for the first time, which looked up its prefix."""
        self.prefix_queries += request.prompt_tokens
        self.prefix_hits += request.cached_tokens

    def record_token(self, request: SimRequest, now: float) -> None:
        """A request gets an output token; call this before its own times change."""
        self.generation_tokens += 1
        if request.last_token_at is None:
            self.time_to_first_token.observe(now - request.arrived_at)
            self.prompt_tokens += request.prompt_tokens
            self.cached_tokens += request.cached_tokens
        else:
            self.inter_token_latency.observe(now - request.last_token_at)

    def record_finish(self, request: SimRequest, now: float) -> None:
        """A request finished. Aborted ones are counted, and enter no histogram."""
        self.finished_requests[request.finish_reason] += 1
        scheduled, first, last = request.scheduled_at, request.first_token_at, request.last_token_at
        if request.finish_reason == "abort" or scheduled is None or first is None or last is None:
            return
        self.request_prompt_tokens.observe(request.prompt_tokens)
        self.request_generation_tokens.observe(request.output_tokens)
        self.request_max_generation_tokens.observe(request.output_tokens)
        self.request_params_n.observe(1)
        self.request_params_max_tokens.observe(request.max_tokens)
        self.time_per_output_token.observe((last - first) / max(1, request.output_tokens - 1))
        self.e2e_request_latency.observe(now - request.arrived_at)
        self.request_queue_time.observe(scheduled - request.arrived_at)
        self.request_inference_time.observe(last - scheduled)
        self.request_prefill_time.observe(first - scheduled)
        self.request_decode_time.observe(last - first)
        self.request_preemptions.observe(request.preemption_count)
        self.prefill_computed_tokens.observe(request.prompt_tokens - request.cached_tokens)
