"""The families of vLLM 0.32's metrics page, in its order and words, as a table: what each shows of an engine.

Families that vLLM shows at zero unless an option or a feature is on are shown at zero here too (`ZERO`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from epp.sim.engine import Engine
from epp.sim.stats import Histogram

Number = Callable[[Engine], float]
Label = tuple[str, str]

ZERO: Number = lambda engine: 0.0  # noqa: E731
ONE: Number = lambda engine: 1.0  # noqa: E731


class Gauge(NamedTuple):
    """Series of numbers, each with at most one label besides the common ones."""

    name: str
    help: str
    series: tuple[tuple[Label | None, Number], ...]
    kind: str = "gauge"
    engine_label: bool = True


class Buckets(NamedTuple):
    """One histogram."""

    name: str
    help: str
    histogram: Callable[[Engine], Histogram]


def _one(number: Number) -> tuple[tuple[Label | None, Number], ...]:
    return ((None, number),)


def _by(label: str, **numbers: Number) -> tuple[tuple[Label | None, Number], ...]:
    return tuple(((label, value), number) for value, number in numbers.items())


def _counter(name: str, text: str, number: Number = ZERO) -> Gauge:
    return Gauge(name, text, _one(number), "counter")


def _finished(reason: str) -> Number:
    return lambda engine: engine.stats.finished[reason]


_FLOPS = "per GPU (for Model Flops Utilization calculations)."
_EXTERNAL = "from KV connector cross-instance cache sharing, in terms of number of"
_SAMPLED = "Sampled metrics (controlled by --kv-cache-metrics-sample)."

NUMBERS: tuple[Gauge, ...] = (
    _counter("estimated_flops_per_gpu", f"Estimated number of floating point operations {_FLOPS}"),
    _counter("estimated_read_bytes_per_gpu", f"Estimated number of bytes read from memory {_FLOPS}"),
    _counter("estimated_write_bytes_per_gpu", f"Estimated number of bytes written to memory {_FLOPS}"),
    Gauge(
        "num_requests_running",
        "Number of requests in model execution batches.",
        _one(lambda engine: len(engine.running)),
    ),
    Gauge(
        "num_requests_waiting",
        "Number of requests waiting to be processed.",
        _one(lambda engine: len(engine.waiting)),
    ),
    Gauge(
        "num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; 'deferred'"
        " = deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all reasons equals"
        " vllm:num_requests_waiting.",
        _by(
            "reason",
            capacity=lambda engine: len(engine.waiting) - engine.deferred,
            deferred=lambda engine: engine.deferred,
        ),
    ),
    Gauge(
        "engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; weights_offloaded = 1"
        " means sleep level 1; discard_all = 1 means sleep level 2.",
        _by("sleep_state", awake=ONE, weights_offloaded=ZERO, discard_all=ZERO),
    ),
    Gauge(
        "kv_cache_usage_perc",
        "KV-cache usage. 1 means 100 percent usage.",
        _one(lambda engine: engine.pool.usage),
    ),
    _counter(
        "prefix_cache_queries",
        "Prefix cache queries, in terms of number of queried tokens.",
        lambda engine: engine.stats.prefix_queries,
    ),
    _counter(
        "prefix_cache_hits",
        "Prefix cache hits, in terms of number of cached tokens.",
        lambda engine: engine.stats.prefix_hits,
    ),
    _counter("external_prefix_cache_queries", f"External prefix cache queries {_EXTERNAL} queried tokens."),
    _counter("external_prefix_cache_hits", f"External prefix cache hits {_EXTERNAL} cached tokens."),
    _counter("mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items."),
    _counter("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
    _counter(
        "num_preemptions",
        "Cumulative number of preemption from the engine.",
        lambda engine: engine.stats.preemptions,
    ),
    _counter("prompt_tokens", "Number of prefill tokens processed.", lambda engine: engine.stats.prompt_tokens),
    Gauge(
        "prompt_tokens_by_source",
        "Number of prompt tokens by source.",
        _by(
            "source",
            local_compute=lambda engine: engine.stats.prompt_tokens - engine.stats.cached_tokens,
            local_cache_hit=lambda engine: engine.stats.cached_tokens,
            external_kv_transfer=ZERO,
        ),
        "counter",
    ),
    _counter(
        "prompt_tokens_cached",
        "Number of cached prompt tokens (local + external).",
        lambda engine: engine.stats.cached_tokens,
    ),
    Gauge(
        "prompt_tokens_cached_by_source",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM),"
        " disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to"
        " vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
        _by(
            "source",
            device=lambda engine: engine.stats.prefix_hits,
            host=ZERO,
            p2p=ZERO,
            disk=ZERO,
            external_unspecified=ZERO,
        ),
        "counter",
    ),
    _counter(
        "generation_tokens",
        "Number of generation tokens processed.",
        lambda engine: engine.stats.generation_tokens,
    ),
    Gauge(
        "request_success",
        "Count of successfully processed requests.",
        tuple(
            (("finished_reason", reason), _finished(reason))
            for reason in ("stop", "length", "abort", "error", "repetition")
        ),
        "counter",
    ),
    Gauge(
        "admission_rejections",
        "Number of admission attempts rejected by a queue limit, by reason.",
        _by("reason", max_num_queued_reqs=lambda engine: engine.stats.rejected, max_num_queued_tokens=ZERO),
        "counter",
        engine_label=False,
    ),
)

HISTOGRAMS: tuple[Buckets, ...] = (
    Buckets("request_prompt_tokens", "Number of prefill tokens processed.", lambda e: e.stats.prompt_size),
    Buckets("request_generation_tokens", "Number of generation tokens processed.", lambda e: e.stats.generation_size),
    Buckets(
        "iteration_tokens_total", "Histogram of number of tokens per engine_step.", lambda e: e.stats.iteration_tokens
    ),
    Buckets(
        "request_max_num_generation_tokens",
        "Histogram of maximum number of requested generation tokens.",
        lambda e: e.stats.max_generation_size,
    ),
    Buckets("request_params_n", "Histogram of the n request parameter.", lambda e: e.stats.params_n),
    Buckets(
        "request_params_max_tokens",
        "Histogram of the max_tokens request parameter.",
        lambda e: e.stats.params_max_tokens,
    ),
    Buckets(
        "time_to_first_token_seconds",
        "Histogram of time to first token in seconds.",
        lambda e: e.stats.first_token,
    ),
    Buckets(
        "inter_token_latency_seconds",
        "Histogram of inter-token latency in seconds.",
        lambda e: e.stats.token_gap,
    ),
    Buckets(
        "request_time_per_output_token_seconds",
        "Histogram of time_per_output_token_seconds per request.",
        lambda e: e.stats.time_per_token,
    ),
    Buckets("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", lambda e: e.stats.latency),
    Buckets(
        "request_queue_time_seconds",
        "Histogram of time spent in WAITING phase for request.",
        lambda e: e.stats.queue_time,
    ),
    Buckets(
        "request_inference_time_seconds",
        "Histogram of time spent in RUNNING phase for request.",
        lambda e: e.stats.inference_time,
    ),
    Buckets(
        "request_prefill_time_seconds",
        "Histogram of time spent in PREFILL phase for request.",
        lambda e: e.stats.prefill_time,
    ),
    Buckets(
        "request_decode_time_seconds",
        "Histogram of time spent in DECODE phase for request.",
        lambda e: e.stats.decode_time,
    ),
    Buckets(
        "request_num_preemptions",
        "Histogram of the number of times a request was preempted.",
        lambda e: e.stats.preemptions_each,
    ),
    Buckets(
        "request_prefill_kv_computed_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
        lambda e: e.stats.computed_prompt,
    ),
    Buckets(
        "kv_block_lifetime_seconds",
        f"Histogram of KV cache block lifetime from allocation to eviction. {_SAMPLED}",
        lambda e: e.stats.block_age,
    ),
    Buckets(
        "kv_block_idle_before_evict_seconds",
        f"Histogram of idle time before KV cache block eviction. {_SAMPLED}",
        lambda e: e.stats.block_age,
    ),
    Buckets(
        "kv_block_reuse_gap_seconds",
        "Histogram of time gaps between consecutive KV cache block accesses. Only the most recent accesses are recorded"
        f" (ring buffer). {_SAMPLED}",
        lambda e: e.stats.block_age,
    ),
)
