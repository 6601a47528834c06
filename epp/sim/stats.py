"""What an engine counts: plain numbers and histograms, under vLLM's names for them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence as Values

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
    """Counts per bucket; `version` changes with every observation."""

    __slots__ = ("bounds", "counts", "sum", "version")

    def __init__(self, bounds: Values[float]) -> None:
        self.bounds = (*bounds, INFINITY)
        self.counts = [0] * len(self.bounds)
        self.sum = 0.0
        self.version = 0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times
        self.version += times

    @property
    def count(self) -> int:
        return self.version


class EngineStats:
    """Everything counted since the engine started. Token counters follow vLLM 0.32 (`vllm/v1/metrics`):

    prefix queries and hits are counted at first admission and not again after a preemption; prompt tokens when the
    first token of the answer is there; an iteration's tokens are those prompts' computed tokens and all new tokens.
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
        self.lora_states: dict[tuple[str, str], float] = {}  # running, waiting, as vLLM writes them -> when last so
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

    def record_admission(self, sequence: SimRequest) -> None:
        """First admission: the prefix was looked up."""
        self.prefix_queries += sequence.prompt_tokens
        self.prefix_hits += sequence.cached_tokens

    def record_token(self, sequence: SimRequest, now: float) -> None:
        """One more token of an answer, before the sequence's own times change."""
        self.generation_tokens += 1
        if sequence.last_token_at is None:
            self.time_to_first_token.observe(now - sequence.arrived_at)
            self.prompt_tokens += sequence.prompt_tokens
            self.cached_tokens += sequence.cached_tokens
        else:
            self.inter_token_latency.observe(now - sequence.last_token_at)

    def record_finish(self, sequence: SimRequest, now: float) -> None:
        """A sequence is over; aborted ones are counted and not measured."""
        self.finished_requests[sequence.finish_reason] += 1
        scheduled, first, last = sequence.scheduled_at, sequence.first_token_at, sequence.last_token_at
        if sequence.finish_reason == "abort" or scheduled is None or first is None or last is None:
            return
        self.request_prompt_tokens.observe(sequence.prompt_tokens)
        self.request_generation_tokens.observe(sequence.output_tokens)
        self.request_max_generation_tokens.observe(sequence.output_tokens)
        self.request_params_n.observe(1)
        self.request_params_max_tokens.observe(sequence.max_tokens)
        self.time_per_output_token.observe((last - first) / max(1, sequence.output_tokens - 1))
        self.e2e_request_latency.observe(now - sequence.arrived_at)
        self.request_queue_time.observe(scheduled - sequence.arrived_at)
        self.request_inference_time.observe(last - scheduled)
        self.request_prefill_time.observe(first - scheduled)
        self.request_decode_time.observe(last - first)
        self.request_preemptions.observe(sequence.preemption_count)
        self.prefill_computed_tokens.observe(sequence.prompt_tokens - sequence.cached_tokens)
