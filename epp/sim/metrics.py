"""The metrics page of one simulated server, line by line as vLLM 0.32 renders it.

Pickers scrape it every 50 ms, so unchanged text is cached: constant text is rendered at start, a histogram again only
after an observation, and the page only after the engine's state has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from prometheus_client.utils import floatToGoString

from epp.clock import Clock
from epp.sim.engine import SimEngine
from epp.sim.metric_families import HISTOGRAM_FAMILIES, SCALAR_FAMILIES, ZERO, HistogramFamily, Label, ScalarFamily
from epp.sim.stats import SimHistogram

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

# Labels of vllm:cache_config_info that the simulator does not model, with the values of a vLLM 0.32 with defaults.
_CACHE_CONFIG = {
    "_block_size_resolved": "True",
    "cache_dtype": "auto",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "engine": "0",
    "gpu_memory_utilization": "0.92",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_cache_memory_bytes": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "float32",
    "num_cpu_blocks": "None",
    "num_gpu_blocks_override": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "True",
}


def _format_go_float(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _format_number(value: float) -> str:
    # prometheus_client formats as Go does: 1e+06 where repr gives 1000000.0. Below that repr is equal and faster.
    return repr(float(value)) if abs(value) < 1e6 else _format_go_float(value)


def _format_labels(pairs: list[Label]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(pairs)) + "}"


class VllmMetricsPage:
    """Renders the page of `engine`. `model` is the base model's name; `lora`: LoRA is enabled."""

    def __init__(self, engine: SimEngine, model: str, clock: Clock, *, lora: bool = False) -> None:
        self._engine = engine
        self._clock = clock
        self._created = _format_go_float(clock.wall())
        self._common_labels: list[Label] = [("engine", "0"), ("model_name", _escape_label_value(model))]
        renderers = [self._scalar_renderer(family) for family in SCALAR_FAMILIES]
        renderers += [self._histogram_renderer(family) for family in HISTOGRAM_FAMILIES]
        if lora:
            renderers.append(self._render_lora_info)
        self._renderers: list[Callable[[], str]] = [*renderers, self._cache_config_renderer()]
        self._rendered_version: tuple[float, ...] = ()
        self._page = b""

    def render(self) -> bytes:
        """The page for the present state of the engine."""
        version = self._current_version()
        if version != self._rendered_version:
            self._page = "".join([render() for render in self._renderers]).encode()
            self._rendered_version = version
        return self._page

    def _current_version(self) -> tuple[float, ...]:
        """Differs whenever the page would: every step adds an iteration, everything else changes between steps."""
        engine, stats = self._engine, self._engine.stats
        return (
            stats.iteration_tokens.count,
            len(engine.running),
            len(engine.waiting),
            engine.block_pool.used_count,
            stats.prefix_queries,
            stats.finished_requests["abort"],
            stats.admission_rejections,
            max(stats.lora_states.values(), default=0.0),
        )

    def _scalar_renderer(self, family: ScalarFamily) -> Callable[[], str]:
        counter = family.type == "counter"
        name = f"vllm:{family.name}"
        common = self._common_labels if family.engine_label else self._common_labels[1:]
        labels = [_format_labels([*common, label] if label else common) for label, _ in family.series]
        header, footer = _format_header(name + "_total" * counter, family.help, family.type), ""
        if counter:
            footer = _format_header(f"{name}_created", family.help, "gauge")
            footer += "".join(f"{name}_created{each} {self._created}\n" for each in labels)
            name += "_total"
        lines = [(f"{name}{each} ", read) for each, (_, read) in zip(labels, family.series, strict=True)]
        engine = self._engine

        def render() -> str:
            return header + "".join([f"{line}{_format_number(read(engine))}\n" for line, read in lines]) + footer

        if all(read is ZERO for _, read in lines):
            constant = render()
            return lambda: constant
        return render

    def _histogram_renderer(self, family: HistogramFamily) -> Callable[[], str]:
        name = f"vllm:{family.name}"
        histogram = family.histogram(self._engine)
        labels = _format_labels(self._common_labels)
        header = _format_header(name, family.help, "histogram")
        footer = _format_header(f"{name}_created", family.help, "gauge") + f"{name}_created{labels} {self._created}\n"
        lines = [
            f"{name}_bucket{_format_labels([*self._common_labels, ('le', _format_go_float(bound))])} "
            for bound in histogram.bounds
        ]
        rendered_count, text = -1, ""

        def render() -> str:
            nonlocal rendered_count, text
            if rendered_count != histogram.count:
                rendered_count = histogram.count
                counts = [f"{line}{count}.0\n" for line, count in zip(lines, accumulate(histogram.counts), strict=True)]
                text = f"{header}{''.join(counts)}{_format_totals(name, labels, histogram)}{footer}"
            return text

        return render

    def _render_lora_info(self) -> str:
        """One series for each combination so far; the one with the greatest value is the present one."""
        offset = self._clock.wall() - self._clock.now()
        name = "vllm:lora_requests_info"
        maximum = ("max_lora", str(self._engine.config.max_loras))
        lines = [_format_header(name, "Running stats on lora requests.", "gauge")]
        for (running, waiting), seen in self._engine.stats.lora_states.items():
            pairs = [maximum, ("running_lora_adapters", running), ("waiting_lora_adapters", waiting)]
            lines.append(f"{name}{_format_labels(pairs)} {_format_go_float(seen + offset)}\n")
        return "".join(lines)

    def _cache_config_renderer(self) -> Callable[[], str]:
        config = self._engine.config
        tokens = config.total_blocks * config.block_size
        known = {
            "block_size": config.block_size,
            "effective_attention_block_size": config.block_size,
            "enable_prefix_caching": config.enable_prefix_caching,
            "kv_cache_max_concurrency": tokens / config.context_tokens,
            "kv_cache_size_tokens": tokens,
            "num_gpu_blocks": config.total_blocks,
        }
        pairs = [(key, str(value)) for key, value in {**_CACHE_CONFIG, **known}.items()]
        name = "vllm:cache_config_info"
        text = (
            _format_header(name, "Information of the LLMEngine CacheConfig", "gauge")
            + f"{name}{_format_labels(pairs)} 1.0\n"
        )
        return lambda: text


def _escape_label_value(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _format_header(name: str, text: str, kind: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _format_totals(name: str, labels: str, histogram: SimHistogram) -> str:
    return f"{name}_count{labels} {histogram.count}.0\n{name}_sum{labels} {_format_number(histogram.sum)}\n"
