"""What an engine counts: plain numbers and histograms, under vLLM's names for them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence as Values

from epp.sim.sequence import Sequence

INFINITY = float("inf")


def _bounds(text: str) -> tuple[float, ...]:
    return tuple(float(bound) for bound in text.split())


TOKENS = _bounds("1 2 5 10 20 50 100 200 500 1000 2000")
ITERATION = _bounds("1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384")
FIRST_TOKEN = _bounds(".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560")
TOKEN_GAP = _bounds(".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80")
LATENCY = _bounds(".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680")
BLOCK_AGE = _bounds(".001 .002 .005 .01 .02 .05 .1 .2 .5 1 2 5 10 20 30 60 120 300 600 1200 1800")
FEW = _bounds("1 2 5 10 20")
PREEMPTIONS = _bounds("1 2 3 4 5 10 20")


class Histogram:
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


class Stats:
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
        self.rejected = 0
        self.finished = {"stop": 0, "length": 0, "abort": 0, "error": 0, "repetition": 0}
        self.adapters: dict[tuple[str, str], float] = {}  # running, waiting, as vLLM writes them -> when last so
        self.iteration_tokens = Histogram(ITERATION)
        self.prompt_size = Histogram(TOKENS)
        self.generation_size = Histogram(TOKENS)
        self.max_generation_size = Histogram(TOKENS)
        self.params_n = Histogram(FEW)
        self.params_max_tokens = Histogram(TOKENS)
        self.first_token = Histogram(FIRST_TOKEN)
        self.token_gap = Histogram(TOKEN_GAP)
        self.time_per_token = Histogram(TOKEN_GAP)
        self.latency = Histogram(LATENCY)
        self.queue_time = Histogram(LATENCY)
        self.inference_time = Histogram(LATENCY)
        self.prefill_time = Histogram(LATENCY)
        self.decode_time = Histogram(LATENCY)
        self.preemptions_each = Histogram(PREEMPTIONS)
        self.computed_prompt = Histogram(TOKENS)
        self.block_age = Histogram(BLOCK_AGE)  # stays empty, as without `--kv-cache-metrics`

    def admitted(self, sequence: Sequence) -> None:
        """First admission: the prefix was looked up."""
        self.prefix_queries += sequence.prompt_tokens
        self.prefix_hits += sequence.cached_tokens

    def token(self, sequence: Sequence, now: float) -> None:
        """One more token of an answer, before the sequence's own times change."""
        self.generation_tokens += 1
        if sequence.last_token_at is None:
            self.first_token.observe(now - sequence.arrived_at)
            self.prompt_tokens += sequence.prompt_tokens
            self.cached_tokens += sequence.cached_tokens
        else:
            self.token_gap.observe(now - sequence.last_token_at)

    def ended(self, sequence: Sequence, now: float) -> None:
        """A sequence is over; aborted ones are counted and not measured."""
        self.finished[sequence.finish] += 1
        scheduled, first, last = sequence.scheduled_at, sequence.first_token_at, sequence.last_token_at
        if sequence.finish == "abort" or scheduled is None or first is None or last is None:
            return
        self.prompt_size.observe(sequence.prompt_tokens)
        self.generation_size.observe(sequence.generated)
        self.max_generation_size.observe(sequence.generated)
        self.params_n.observe(1)
        self.params_max_tokens.observe(sequence.max_tokens)
        self.time_per_token.observe((last - first) / max(1, sequence.generated - 1))
        self.latency.observe(now - sequence.arrived_at)
        self.queue_time.observe(scheduled - sequence.arrived_at)
        self.inference_time.observe(last - scheduled)
        self.prefill_time.observe(first - scheduled)
        self.decode_time.observe(last - first)
        self.preemptions_each.observe(sequence.preemptions)
        self.computed_prompt.observe(sequence.prompt_tokens - sequence.cached_tokens)
