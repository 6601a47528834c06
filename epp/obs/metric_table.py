"""Every metric as data. Names, labels and buckets are llm-d's, so that its dashboards and alerts keep working.

Source: llm-d's `pkg/epp/metrics` and `docs/metrics.md`. Metrics of features that do not exist here (flow control,
disaggregation, predicted latency) are left out; names that begin with `epp_` are our own. An alias is the older name
under which llm-d exposes the same numbers.
"""

from __future__ import annotations

from epp.obs.metric_cells import LegacyAlias, MetricDefinition, MetricType

MODEL_LABELS = ("model_name", "target_model_name")
REQUEST_LABELS = (*MODEL_LABELS, "fairness_id", "priority")
PLUGIN_LABELS = ("extension_point", "plugin_type", "plugin_name")
PREFIX_LABELS = ("plugin_name", "plugin_type")

# fmt: off
DURATION_BUCKETS = (  # llm-d's generalLatencyBuckets
    .005, .025, .05, .1, .2, .4, .6, .8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 120,
    180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)
TTFT_BUCKETS = DURATION_BUCKETS[:DURATION_BUCKETS.index(120) + 1]
SCHEDULING_BUCKETS = (.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1)
BODY_SIZE_BUCKETS = tuple(64 << k for k in range(25))
# 32778, not 32768, is llm-d's: dashboards name this bucket.
RESPONSE_SIZE_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536)
TOKEN_BUCKETS = (*RESPONSE_SIZE_BUCKETS, 131072, 262144, 524288, 1048576)
OUTPUT_TOKEN_BUCKETS = RESPONSE_SIZE_BUCKETS[:RESPONSE_SIZE_BUCKETS.index(8192) + 1]
NTPOT_BUCKETS = (.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10)
TPOT_BUCKETS = (.0005, .00205, .005, .01, .02, .04, .06, .08, .1, .125, .15, .2, .3, .4, .5, .6, .8, 1, 2)
INTER_TOKEN_BUCKETS = (.001, .005, .01, .02, .04, .06, .08, .1, .15, .2, .3, .5, .75, 1, 2)
REQUEST_PROCESSING_BUCKETS = (.0005, .001, .002, .005, .01, .015, .025, .04, .06, .1, .25, .5, 1, 2.5, 5, 10)
STREAM_BUCKETS = (.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 120, 300, 600)
RATIO_BUCKETS = (0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1)
HIT_BYTES_BUCKETS = (0, *(16 << k for k in range(13)))
SCRAPE_BUCKETS = (.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5)
# fmt: on


def _llmd_metric(
    metric_type: MetricType,
    name: str,
    help: str,
    labels: tuple[str, ...] = (),
    buckets: tuple[float, ...] = (),
    alias: str = "",
    alias_labels: tuple[str, ...] | None = None,
) -> MetricDefinition:
    """One of llm-d's metrics. Items of `alias_labels`: a label, or `label of the alias=our label`; None: our labels."""
    items = labels if alias_labels is None else alias_labels
    pairs = tuple((item.partition("=")[0], item.partition("=")[2] or item) for item in items)
    return MetricDefinition(
        f"llm_d_epp_{name}",
        metric_type,
        f"[ALPHA] {help}",
        labels,
        buckets,
        LegacyAlias(alias, pairs) if alias else None,
    )


REQUEST_METRICS = (
    _llmd_metric(
        "counter",
        "request_total",
        "Requests routed.",
        REQUEST_LABELS,
        alias="inference_objective_request_total",
        alias_labels=(*MODEL_LABELS, "priority"),
    ),
    _llmd_metric(
        "counter",
        "request_error_total",
        "Requests answered with an error by the picker.",
        (*REQUEST_LABELS, "error_code"),
        alias="inference_objective_request_error_total",
        alias_labels=(*MODEL_LABELS, "error_code"),
    ),
    _llmd_metric(
        "histogram",
        "request_duration_seconds",
        "From the request's arrival to the end of its response.",
        REQUEST_LABELS,
        DURATION_BUCKETS,
        "inference_objective_request_duration_seconds",
        MODEL_LABELS,
    ),
    _llmd_metric(
        "histogram",
        "request_size_bytes",
        "Size of request bodies.",
        REQUEST_LABELS,
        BODY_SIZE_BUCKETS,
        "inference_objective_request_sizes",
        MODEL_LABELS,
    ),
    _llmd_metric(
        "histogram",
        "response_size_bytes",
        "Size of response bodies.",
        REQUEST_LABELS,
        RESPONSE_SIZE_BUCKETS,
        "inference_objective_response_sizes",
        MODEL_LABELS,
    ),
    _llmd_metric(
        "histogram",
        "request_input_tokens",
        "Prompt tokens, as the model server counted them.",
        REQUEST_LABELS,
        TOKEN_BUCKETS,
        "inference_objective_input_tokens",
        MODEL_LABELS,
    ),
    _llmd_metric(
        "histogram",
        "request_output_tokens",
        "Generated tokens, as the model server counted them.",
        REQUEST_LABELS,
        OUTPUT_TOKEN_BUCKETS,
        "inference_objective_output_tokens",
        MODEL_LABELS,
    ),
    _llmd_metric(
        "histogram",
        "request_cached_tokens",
        "Prompt tokens that the model server found in its cache.",
        REQUEST_LABELS,
        TOKEN_BUCKETS,
        "inference_objective_prompt_cached_tokens",
        MODEL_LABELS,
    ),
    _llmd_metric(
        "gauge",
        "request_running",
        "Routed requests that have not ended.",
        REQUEST_LABELS,
        alias="inference_objective_running_requests",
        alias_labels=("model_name",),
    ),
    _llmd_metric(
        "histogram",
        "request_ntpot_seconds",
        "Duration divided by the number of generated tokens.",
        REQUEST_LABELS,
        NTPOT_BUCKETS,
        "inference_objective_normalized_time_per_output_token_seconds",
        MODEL_LABELS,
    ),
    _llmd_metric(
        "histogram",
        "request_ttft_seconds",
        "From the request's arrival to the first byte of its response.",
        (*REQUEST_LABELS, "streaming"),
        TTFT_BUCKETS,
    ),
    _llmd_metric(
        "histogram",
        "request_streaming_tpot_seconds",
        "Time per output token after the first, of streamed responses.",
        REQUEST_LABELS,
        TPOT_BUCKETS,
    ),
    _llmd_metric(
        "histogram",
        "request_streaming_itl_seconds",
        "Time between two chunks of a streamed response.",
        REQUEST_LABELS,
        INTER_TOKEN_BUCKETS,
    ),
    _llmd_metric(
        "histogram",
        "request_processing_duration_seconds",
        "From the request's arrival to the picker's answer to Envoy.",
        buckets=REQUEST_PROCESSING_BUCKETS,
    ),
)

POOL_METRICS = (
    _llmd_metric(
        "gauge",
        "average_kv_cache_utilization",
        "Mean KV cache utilization of the pool.",
        ("name",),
        alias="inference_pool_average_kv_cache_utilization",
    ),
    _llmd_metric(
        "gauge",
        "average_queue_size",
        "Mean number of waiting requests of the pool.",
        ("name",),
        alias="inference_pool_average_queue_size",
    ),
    _llmd_metric(
        "gauge",
        "average_running_requests",
        "Mean number of running requests of the pool.",
        ("name",),
        alias="inference_pool_average_running_requests",
    ),
    _llmd_metric(
        "gauge", "std_dev_kv_cache_utilization", "Standard deviation of KV cache use over the pool.", ("name",)
    ),
    _llmd_metric("gauge", "std_dev_queue_size", "Standard deviation of waiting requests over the pool.", ("name",)),
    _llmd_metric(
        "gauge", "std_dev_running_requests", "Standard deviation of running requests over the pool.", ("name",)
    ),
    _llmd_metric(
        "gauge", "ready_endpoints", "Endpoints with fresh metrics.", ("name",), alias="inference_pool_ready_pods"
    ),
    _llmd_metric(
        "gauge",
        "per_endpoint_queue_size",
        "Waiting requests of an endpoint.",
        ("name", "model_server_endpoint"),
        alias="inference_pool_per_pod_queue_size",
        alias_labels=("name", "model_server_pod=model_server_endpoint"),
    ),
    _llmd_metric(
        "gauge",
        "inflight_requests",
        "Requests routed to an endpoint that have not ended.",
        ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority"),
    ),
    _llmd_metric(
        "gauge",
        "inflight_tokens",
        "Uncached prompt tokens of the requests in flight to an endpoint.",
        ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority"),
    ),
)

SCHEDULER_METRICS = (
    _llmd_metric(
        "histogram",
        "scheduler_e2e_duration_seconds",
        "Duration of a scheduling decision.",
        buckets=SCHEDULING_BUCKETS,
        alias="inference_extension_scheduler_e2e_duration_seconds",
    ),
    _llmd_metric(
        "counter",
        "scheduler_attempts_total",
        "Scheduling decisions by outcome.",
        ("status", "target_model_name", "endpoint_name", "namespace", "port"),
        alias="inference_extension_scheduler_attempts_total",
        alias_labels=("status", "target_model_name", "pod_name=endpoint_name", "namespace", "port"),
    ),
    _llmd_metric(
        "histogram",
        "plugin_duration_seconds",
        "Duration of a plugin call (sampled).",
        PLUGIN_LABELS,
        SCHEDULING_BUCKETS,
        "inference_extension_plugin_duration_seconds",
    ),
    _llmd_metric(
        "counter",
        "plugin_data_scope_violations_total",
        "Reads and writes that a plugin did not declare.",
        (*PLUGIN_LABELS, "access"),
    ),
    _llmd_metric("gauge", "info", "Build of the picker.", ("commit", "build_ref"), alias="inference_extension_info"),
    _llmd_metric(
        "counter",
        "model_rewrite_decisions_total",
        "Requests whose model name was rewritten.",
        ("model_rewrite_name", "model_name", "target_model"),
        alias="inference_extension_model_rewrite_decisions_total",
    ),
    _llmd_metric(
        "counter",
        "datalayer_poll_errors_total",
        "Scrapes that failed.",
        ("source_type",),
        alias="llm_d_inference_scheduler_datalayer_poll_errors_total",
    ),
    _llmd_metric(
        "counter",
        "datalayer_extract_errors_total",
        "Scrapes whose values could not be extracted.",
        ("source_type", "extractor_type"),
        alias="llm_d_inference_scheduler_datalayer_extract_errors_total",
    ),
)

PREFIX_METRICS = (
    _llmd_metric(
        "gauge",
        "prefix_indexer_size",
        "Entries of the prefix index.",
        PREFIX_LABELS,
        alias="inference_extension_prefix_indexer_size",
        alias_labels=(),
    ),
    _llmd_metric(
        "histogram",
        "prefix_indexer_hit_ratio",
        "Share of a prompt that the best endpoint holds.",
        PREFIX_LABELS,
        RATIO_BUCKETS,
        "inference_extension_prefix_indexer_hit_ratio",
        (),
    ),
    _llmd_metric(
        "histogram",
        "prefix_indexer_hit_bytes",
        "Bytes of a prompt that the best endpoint holds.",
        PREFIX_LABELS,
        HIT_BYTES_BUCKETS,
        "inference_extension_prefix_indexer_hit_bytes",
        (),
    ),
)

STREAM_METRICS = (
    _llmd_metric("gauge", "extproc_streams_inflight", "Open ext_proc streams."),
    _llmd_metric(
        "histogram", "extproc_stream_duration_seconds", "Duration of an ext_proc stream.", buckets=STREAM_BUCKETS
    ),
    _llmd_metric("counter", "extproc_streams_total", "Ended ext_proc streams by gRPC status code.", ("code",)),
)

EPP_METRICS = (
    MetricDefinition("epp_plugin_faults_total", "counter", "Plugin errors by kind.", ("plugin", "kind")),
    MetricDefinition("epp_ended_total", "counter", "Routed requests that ended, by cause.", ("cause",)),
    MetricDefinition(
        "epp_estimated_prompt_tokens_total", "counter", "Prompt tokens of routed requests, as estimated here."
    ),
    MetricDefinition("epp_scrapes_total", "counter", "Scrapes of endpoints by outcome.", ("outcome",)),
    MetricDefinition("epp_scrape_duration_seconds", "histogram", "Duration of a scrape.", buckets=SCRAPE_BUCKETS),
    MetricDefinition("epp_open_streams", "gauge", "Open ext_proc streams."),
)

ALL_METRICS = (*REQUEST_METRICS, *POOL_METRICS, *SCHEDULER_METRICS, *PREFIX_METRICS, *STREAM_METRICS, *EPP_METRICS)
