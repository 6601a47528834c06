"""The metric families of vLLM 0.32 as a table: name and help text in vLLM's order, and the value of each in an engine.

A family that vLLM reports as zero unless some option is set is always zero here (`ZERO`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from epp.sim.engine import SimEngine
from epp.sim.stats import SimHistogram

ReadValue = Callable[[SimEngine], float]
Label = tuple[str, str]

ZERO: ReadValue = lambda engine: 0.0  # noqa: E731
ONE: ReadValue = lambda engine: 1.0  # noqa: E731


class ScalarFamily(NamedTuple):
    """A gauge or counter family. Each series has at most one label besides the common ones."""

    name: str
    help: str
    series: tuple[tuple[Label | None, ReadValue], ...]
    type: str = "gauge"
    engine_label: bool = True


class HistogramFamily(NamedTuple):
    """A histogram family of one series."""

    name: str
    help: str
    histogram: Callable[[SimEngine], SimHistogram]


def _single_series(read: ReadValue) -> tuple[tuple[Label | None, ReadValue], ...]:
    return ((None, read),)


def _series_by_label(label: str, **reads: ReadValue) -> tuple[tuple[Label | None, ReadValue], ...]:
    return tuple(((label, value), read) for value, read in reads.items())


def _counter_family(name: str, text: str, read: ReadValue = ZERO) -> ScalarFamily:
    return ScalarFamily(name, text, _single_series(read), "counter")


def _count_finished(reason: str) -> ReadValue:
    return lambda engine: engine.stats.finished_requests[reason]


_FLOPS = "per GPU (for Model Flops Utilization calculations)."
_EXTERNAL = "from KV connector cross-instance cache sharing, in terms of number of"
_SAMPLED = "Sampled metrics (controlled by --kv-cache-metrics-sample)."

SCALAR_FAMILIES: tuple[ScalarFamily, ...] = (
    _counter_family("estimated_flops_per_gpu", f"Estimated number of floating point operations {_FLOPS}"),
    _counter_family("estimated_read_bytes_per_gpu", f"Estimated number of bytes read from memory {_FLOPS}"),
    _counter_family("estimated_write_bytes_per_gpu", f"Estimated number of bytes written to memory {_FLOPS}"),
    ScalarFamily(
        "num_requests_running",
        "Number of requests in model execution batches.",
        _single_series(lambda engine: len(engine.running)),
    ),
    ScalarFamily(
        "num_requests_waiting",
        "Number of requests waiting to be processed.",
        _single_series(lambda engine: len(engine.waiting)),
    ),
    ScalarFamily(
        "num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; 'deferred'"
        " = deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all reasons equals"
        " vllm:num_requests_waiting.",
        _series_by_label(
            "reason",
            capacity=lambda engine: len(engine.waiting) - engine.deferred_count,
            deferred=lambda engine: engine.deferred_count,
        ),
    ),
    ScalarFamily(
        "engine_sleep_state",
        "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; weights_offloaded = 1"
        " means sleep level 1; discard_all = 1 means sleep level 2.",
        _series_by_label("sleep_state", awake=ONE, weights_offloaded=ZERO, discard_all=ZERO),
    ),
    ScalarFamily(
        "kv_cache_usage_perc",
        "KV-cache usage. 1 means 100 percent usage.",
        _single_series(lambda engine: engine.block_pool.usage),
    ),
    _counter_family(
        "prefix_cache_queries",
        "Prefix cache queries, in terms of number of queried tokens.",
        lambda engine: engine.stats.prefix_queries,
    ),
    _counter_family(
        "prefix_cache_hits",
        "Prefix cache hits, in terms of number of cached tokens.",
        lambda engine: engine.stats.prefix_hits,
    ),
    _counter_family("external_prefix_cache_queries", f"External prefix cache queries {_EXTERNAL} queried tokens."),
    _counter_family("external_prefix_cache_hits", f"External prefix cache hits {_EXTERNAL} cached tokens."),
    _counter_family("mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items."),
    _counter_family("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
    _counter_family(
        "num_preemptions",
        "Cumulative number of preemption from the engine.",
        lambda engine: engine.stats.preemptions,
    ),
    _counter_family("prompt_tokens", "Number of prefill tokens processed.", lambda engine: engine.stats.prompt_tokens),
    ScalarFamily(
        "prompt_tokens_by_source",
        "Number of prompt tokens by source.",
        _series_by_label(
            "source",
            local_compute=lambda engine: engine.stats.prompt_tokens - engine.stats.cached_tokens,
            local_cache_hit=lambda engine: engine.stats.cached_tokens,
            external_kv_transfer=ZERO,
        ),
        "counter",
    ),
    _counter_family(
        "prompt_tokens_cached",
        "Number of cached prompt tokens (local + external).",
        lambda engine: engine.stats.cached_tokens,
    ),
    ScalarFamily(
        "prompt_tokens_cached_by_source",
        "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM),"
        " disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to"
        " vllm:prefix_cache_hits + vllm:external_prefix_cache_hits.",
        _series_by_label(
            "source",
            device=lambda engine: engine.stats.prefix_hits,
            host=ZERO,
            p2p=ZERO,
            disk=ZERO,
            external_unspecified=ZERO,
        ),
        "counter",
    ),
    _counter_family(
        "generation_tokens",
        "Number of generation tokens processed.",
        lambda engine: engine.stats.generation_tokens,
    ),
    ScalarFamily(
        "request_success",
        "Count of successfully processed requests.",
        tuple(
            (("finished_reason", reason), _count_finished(reason))
            for reason in ("stop", "length", "abort", "error", "repetition")
        ),
        "counter",
    ),
    ScalarFamily(
        "admission_rejections",
        "Number of admission attempts rejected by a queue limit, by reason.",
        _series_by_label(
            "reason", max_num_queued_reqs=lambda engine: engine.stats.admission_rejections, max_num_queued_tokens=ZERO
        ),
        "counter",
        engine_label=False,
    ),
)

HISTOGRAM_FAMILIES: tuple[HistogramFamily, ...] = (
    HistogramFamily(
        "request_prompt_tokens", "Number of prefill tokens processed.", lambda e: e.stats.request_prompt_tokens
    ),
    HistogramFamily(
        "request_generation_tokens",
        "Number of generation tokens processed.",
        lambda e: e.stats.request_generation_tokens,
    ),
    HistogramFamily(
        "iteration_tokens_total", "Histogram of number of tokens per engine_step.", lambda e: e.stats.iteration_tokens
    ),
    HistogramFamily(
        "request_max_num_generation_tokens",
        "Histogram of maximum number of requested generation tokens.",
        lambda e: e.stats.request_max_generation_tokens,
    ),
    HistogramFamily("request_params_n", "Histogram of the n request parameter.", lambda e: e.stats.request_params_n),
    HistogramFamily(
        "request_params_max_tokens",
        "Histogram of the max_tokens request parameter.",
        lambda e: e.stats.request_params_max_tokens,
    ),
    HistogramFamily(
        "time_to_first_token_seconds",
        "Histogram of time to first token in seconds.",
        lambda e: e.stats.time_to_first_token,
    ),
    HistogramFamily(
        "inter_token_latency_seconds",
        "Histogram of inter-token latency in seconds.",
        lambda e: e.stats.inter_token_latency,
    ),
    HistogramFamily(
        "request_time_per_output_token_seconds",
        "Histogram of time_per_output_token_seconds per request.",
        lambda e: e.stats.time_per_output_token,
    ),
    HistogramFamily(
        "e2e_request_latency_seconds",
        "Histogram of e2e request latency in seconds.",
        lambda e: e.stats.e2e_request_latency,
    ),
    HistogramFamily(
        "request_queue_time_seconds",
        "Histogram of time spent in WAITING phase for request.",
        lambda e: e.stats.request_queue_time,
    ),
    HistogramFamily(
        "request_inference_time_seconds",
        "Histogram of time spent in RUNNING phase for request.",
        lambda e: e.stats.request_inference_time,
    ),
    HistogramFamily(
        "request_prefill_time_seconds",
        "Histogram of time spent in PREFILL phase for request.",
        lambda e: e.stats.request_prefill_time,
    ),
    HistogramFamily(
        "request_decode_time_seconds",
        "Histogram of time spent in DECODE phase for request.",
        lambda e: e.stats.request_decode_time,
    ),
    HistogramFamily(
        "request_num_preemptions",
        "Histogram of the number of times a request was preempted.",
        lambda e: e.stats.request_preemptions,
    ),
    HistogramFamily(
        "request_prefill_kv_computed_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
        lambda e: e.stats.prefill_computed_tokens,
    ),
    HistogramFamily(
        "kv_block_lifetime_seconds",
        f"Histogram of KV cache block lifetime from allocation to eviction. {_SAMPLED}",
        lambda e: e.stats.kv_block_age,
    ),
    HistogramFamily(
        "kv_block_idle_before_evict_seconds",
        f"Histogram of idle time before KV cache block eviction. {_SAMPLED}",
        lambda e: e.stats.kv_block_age,
    ),
    HistogramFamily(
        "kv_block_reuse_gap_seconds",
        "Histogram of time gaps between consecutive KV cache block accesses. Only the most recent accesses are recorded"
        f" (ring buffer). {_SAMPLED}",
        lambda e: e.stats.kv_block_age,
    ),
)
