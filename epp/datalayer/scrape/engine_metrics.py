"""The plugin `core-metrics-extractor`: metric names of each inference engine, and the columns that they are read into.

The names are those of llm-d (extractor/metrics/factories.go, `defaultEngineConfigs`). Three deliberate differences:

- Several series of one metric (data-parallel engines behind one port, several models) are aggregated: counts are
  summed, KV-cache usage is averaged. llm-d (`getLatestMetric`) reads the series with the latest timestamp, which is the
  first one where there are no timestamps, as on vLLM's pages: it sees one engine of eight. Where series repeat
  the same requests (SGLang: a series for each tensor-parallel rank), select one by its label:
  `sglang:num_queue_reqs{tp_rank=0}`.
- vLLM before 0.9.2 calls its KV-cache usage `vllm:gpu_cache_usage_perc`; that name is tried second.
- A series that is absent or not a number makes its column unknown (NaN) instead of keeping the last value.

Kept from llm-d although it is a defect: for `triton` running requests are read from `nv_inference_exec_count`, which
counts executions since the start. Configure an engine of your own for Triton if you use running requests.

To support another engine, add its names to `BUILT_IN_ENGINES`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from epp.api import SCRAPED_COLUMNS, Column, Endpoint, Extractor, MetricsPage
from epp.datalayer.scrape.metric_reader import EngineMetrics, MetricsPageReader
from epp.datalayer.scrape.metric_spec import MetricSpec

ENGINE_LABEL = "llm-d.ai/engine-type"
LEGACY_ENGINE_LABEL = "inference.networking.k8s.io/engine-type"
RESERVED_ENGINE_NAME = "default"
KV_USAGE_FALLBACKS = {"vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc"}


class CustomMetric(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A metric of the user's choice, read into a column named `attributeKey`."""

    attribute_key: Annotated[str, msgspec.Meta(min_length=1)]
    metric_spec: Annotated[str, msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        MetricSpec.parse(self.metric_spec)


class EngineMetricsConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The metric names of one engine. An empty specification switches a quantity off.

    Block size and number of blocks are read from two labels of `cacheInfoSpec`, or from the values of
    `cacheBlockSizeSpec` and `cacheNumBlocksSpec`, which take precedence.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    queued_requests_spec: str = ""
    running_requests_spec: str = ""
    kv_usage_spec: str = ""
    lora_spec: str = ""
    cache_info_spec: str = ""
    cache_block_size_label_name: str = ""
    cache_num_blocks_label_name: str = ""
    cache_block_size_spec: str = ""
    cache_num_blocks_spec: str = ""
    custom_metrics: list[CustomMetric] = []

    def __post_init__(self) -> None:
        if self.name == RESERVED_ENGINE_NAME:
            raise ValueError(f"the engine name {RESERVED_ENGINE_NAME!r} is reserved; set `defaultEngine` instead")
        for field in msgspec.structs.fields(self):
            if field.name.endswith("_spec"):
                try:
                    MetricSpec.parse(getattr(self, field.name))
                except ValueError as error:
                    raise ValueError(f"`{field.encode_name}`: {error}") from None


BUILT_IN_ENGINES = (
    EngineMetricsConfig(
        name="vllm",
        queued_requests_spec="vllm:num_requests_waiting",
        running_requests_spec="vllm:num_requests_running",
        kv_usage_spec="vllm:kv_cache_usage_perc",
        lora_spec="vllm:lora_requests_info",
        cache_info_spec="vllm:cache_config_info",
    ),
    EngineMetricsConfig(
        name="sglang",
        queued_requests_spec="sglang:num_queue_reqs",
        running_requests_spec="sglang:num_running_reqs",
        kv_usage_spec="sglang:token_usage",
        cache_info_spec="sglang:cache_config_info",
        cache_block_size_label_name="page_size",
        cache_num_blocks_label_name="num_pages",
    ),
    EngineMetricsConfig(
        name="trtllm-serve",
        queued_requests_spec="trtllm_num_requests_waiting",
        running_requests_spec="trtllm_num_requests_running",
        kv_usage_spec="trtllm_kv_cache_utilization",
        cache_block_size_spec="trtllm_kv_cache_tokens_per_block",
        cache_num_blocks_spec="trtllm_kv_cache_max_blocks",
    ),
    EngineMetricsConfig(
        name="triton-tensorrt-llm",
        queued_requests_spec="nv_trt_llm_request_metrics{request_type=waiting}",
        running_requests_spec="nv_trt_llm_request_metrics{request_type=scheduled}",
        kv_usage_spec="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
        cache_block_size_spec="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}",
        cache_num_blocks_spec="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}",
    ),
    EngineMetricsConfig(
        name="triton",
        queued_requests_spec="nv_inference_pending_request_count",
        running_requests_spec="nv_inference_exec_count",
    ),
)


class CoreMetricsExtractor(Extractor, type="core-metrics-extractor"):
    """Read queue, running requests, KV-cache use, LoRA adapters and cache size from the metrics page of an engine.

    The endpoint's label `engineLabelKey` names its engine (`inference.networking.k8s.io/engine-type` is read too);
    without such a label, or with the name of an undefined engine, it is `defaultEngine`. An entry of `engineConfigs`
    with the name of a built-in engine replaces it entirely.
    """

    payload_type = MetricsPage

    engine_label_key: str = ENGINE_LABEL
    default_engine: str = "vllm"
    engine_configs: list[EngineMetricsConfig] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        names = [config.name for config in self.engine_configs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"`engineConfigs` defines {', '.join(twice)} more than once")
        configs = {config.name: config for config in (*BUILT_IN_ENGINES, *self.engine_configs)}
        if (self.default_engine or "vllm") not in configs:
            raise ValueError(f"`defaultEngine` {self.default_engine!r} is none of {', '.join(sorted(configs))}")
        self.custom_columns: dict[str, Column] = {}
        """The columns of custom metrics by attribute key. Engines that define the same key share its column."""
        self._compiled_engines = {name: self._compile_engine(config) for name, config in configs.items()}
        self.columns = (*SCRAPED_COLUMNS, *self.custom_columns.values())

    def engine_name(self, endpoint: Endpoint) -> str:
        """The engine that an endpoint's labels name; the default engine if they name none or an undefined one."""
        labels = endpoint.labels
        name = labels.get(self.engine_label_key or ENGINE_LABEL) or labels.get(LEGACY_ENGINE_LABEL)
        return name if name in self._compiled_engines else self.default_engine or "vllm"

    def open(self, endpoint: Endpoint, slot: int = 0) -> MetricsPageReader:
        """A reader of the successive pages of one endpoint, for the engine that its labels name."""
        return MetricsPageReader(self._compiled_engines[self.engine_name(endpoint)])

    def _compile_engine(self, config: EngineMetricsConfig) -> EngineMetrics:
        kv_usage = [config.kv_usage_spec]
        if config.kv_usage_spec in KV_USAGE_FALLBACKS:
            kv_usage.append(KV_USAGE_FALLBACKS[config.kv_usage_spec])
        custom: dict[Column, str] = {}
        for metric in config.custom_metrics:
            key = metric.attribute_key
            column = self.custom_columns.setdefault(key, Column(key, "", f"custom metric {key}"))
            custom[column] = metric.metric_spec
        return EngineMetrics(
            config.name,
            waiting=config.queued_requests_spec,
            running=config.running_requests_spec,
            kv_usage=kv_usage,
            lora=config.lora_spec,
            cache_info=config.cache_info_spec,
            block_size_label=config.cache_block_size_label_name or "block_size",
            block_count_label=config.cache_num_blocks_label_name or "num_gpu_blocks",
            block_size=config.cache_block_size_spec,
            block_count=config.cache_num_blocks_spec,
            custom=custom,
        )
