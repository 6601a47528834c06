"""Every metric, as data: names, labels and buckets are llm-d's, so that its dashboards and alerts go on working.

Metrics of parts that do not exist here (flow control, disaggregation, predicted latency) are not in the table. Names
that begin with `epp_` are our own. A twin is llm-d's older name of the same numbers.
"""

from __future__ import annotations

from epp.obs.metric_cells import Kind, Spec, Twin

MODEL = ("model_name", "target_model_name")
REQUEST = (*MODEL, "fairness_id", "priority")
PLUGIN = ("extension_point", "plugin_type", "plugin_name")
OWNER = ("plugin_name", "plugin_type")

# fmt: off
DURATIONS = (
    .005, .025, .05, .1, .2, .4, .6, .8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 120,
    180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)
TTFTS = DURATIONS[:DURATIONS.index(120) + 1]
SCHEDULING = (.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1)
BODIES = tuple(64 << k for k in range(25))
# 32778 is llm-d's; a dashboard that names the bucket finds it
RESPONSES = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536)
TOKENS = (*RESPONSES, 131072, 262144, 524288, 1048576)
OUTPUTS = RESPONSES[:RESPONSES.index(8192) + 1]
PER_OUTPUT_TOKEN = (.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10)
TPOTS = (.0005, .00205, .005, .01, .02, .04, .06, .08, .1, .125, .15, .2, .3, .4, .5, .6, .8, 1, 2)
GAPS = (.001, .005, .01, .02, .04, .06, .08, .1, .15, .2, .3, .5, .75, 1, 2)
REQUEST_PROCESSING = (.0005, .001, .002, .005, .01, .015, .025, .04, .06, .1, .25, .5, 1, 2.5, 5, 10)
STREAMS = (.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 120, 300, 600)
RATIOS = (0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1)
HIT_BYTES = (0, *(16 << k for k in range(13)))
SCRAPES = (.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5)
# fmt: on


def _llmd(
    kind: Kind,
    name: str,
    help: str,
    labels: tuple[str, ...] = (),
    buckets: tuple[float, ...] = (),
    twin: str = "",
    twin_labels: tuple[str, ...] | None = None,
) -> Spec:
    """A row; an item of `twin_labels` is a label, or `theirs=ours`. None: the same labels as ours."""
    taken = labels if twin_labels is None else twin_labels
    pairs = tuple((item.partition("=")[0], item.partition("=")[2] or item) for item in taken)
    return Spec(f"llm_d_epp_{name}", kind, f"[ALPHA] {help}", labels, buckets, Twin(twin, pairs) if twin else None)


# fmt: off
REQUESTS = (
    _llmd("counter", "request_total", "Requests routed.", REQUEST,
          twin="inference_objective_request_total", twin_labels=(*MODEL, "priority")),
    _llmd("counter", "request_error_total", "Requests answered with an error by the picker.", (*REQUEST, "error_code"),
          twin="inference_objective_request_error_total", twin_labels=(*MODEL, "error_code")),
    _llmd("histogram", "request_duration_seconds", "From the request's arrival to the end of its answer.", REQUEST,
          DURATIONS, "inference_objective_request_duration_seconds", MODEL),
    _llmd("histogram", "request_size_bytes", "Size of request bodies.", REQUEST,
          BODIES, "inference_objective_request_sizes", MODEL),
    _llmd("histogram", "response_size_bytes", "Size of response bodies.", REQUEST,
          RESPONSES, "inference_objective_response_sizes", MODEL),
    _llmd("histogram", "request_input_tokens", "Prompt tokens, as the model server counted them.", REQUEST,
          TOKENS, "inference_objective_input_tokens", MODEL),
    _llmd("histogram", "request_output_tokens", "Generated tokens, as the model server counted them.", REQUEST,
          OUTPUTS, "inference_objective_output_tokens", MODEL),
    _llmd("histogram", "request_cached_tokens", "Prompt tokens that the model server found in its cache.", REQUEST,
          TOKENS, "inference_objective_prompt_cached_tokens", MODEL),
    _llmd("gauge", "request_running", "Requests routed and not over.", REQUEST,
          twin="inference_objective_running_requests", twin_labels=("model_name",)),
    _llmd("histogram", "request_ntpot_seconds", "Duration divided by the number of generated tokens.", REQUEST,
          PER_OUTPUT_TOKEN, "inference_objective_normalized_time_per_output_token_seconds", MODEL),
    _llmd("histogram", "request_ttft_seconds", "From the request's arrival to the first byte of its answer.",
          (*REQUEST, "streaming"), TTFTS),
    _llmd("histogram", "request_streaming_tpot_seconds", "Time per token after the first, of streamed answers.",
          REQUEST, TPOTS),
    _llmd("histogram", "request_streaming_itl_seconds", "Gap between two pieces of a streamed answer.", REQUEST, GAPS),
    _llmd("histogram", "request_processing_duration_seconds", "From the request's arrival to our answer to Envoy.",
          buckets=REQUEST_PROCESSING),
)

POOL = (
    _llmd("gauge", "average_kv_cache_utilization", "Mean KV cache use of the pool.", ("name",),
          twin="inference_pool_average_kv_cache_utilization"),
    _llmd("gauge", "average_queue_size", "Mean number of waiting requests of the pool.", ("name",),
          twin="inference_pool_average_queue_size"),
    _llmd("gauge", "average_running_requests", "Mean number of running requests of the pool.", ("name",),
          twin="inference_pool_average_running_requests"),
    _llmd("gauge", "std_dev_kv_cache_utilization", "Standard deviation of KV cache use over the pool.", ("name",)),
    _llmd("gauge", "std_dev_queue_size", "Standard deviation of waiting requests over the pool.", ("name",)),
    _llmd("gauge", "std_dev_running_requests", "Standard deviation of running requests over the pool.", ("name",)),
    _llmd("gauge", "ready_endpoints", "Endpoints with fresh metrics.", ("name",), twin="inference_pool_ready_pods"),
    _llmd("gauge", "per_endpoint_queue_size", "Waiting requests of an endpoint.", ("name", "model_server_endpoint"),
          twin="inference_pool_per_pod_queue_size",
          twin_labels=("name", "model_server_pod=model_server_endpoint")),
    _llmd("gauge", "inflight_requests", "Requests routed to an endpoint and not over.",
          ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority")),
    _llmd("gauge", "inflight_tokens", "Uncached prompt tokens of the requests in flight to an endpoint.",
          ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority")),
)

SCHEDULER = (
    _llmd("histogram", "scheduler_e2e_duration_seconds", "Time of one scheduling decision.", buckets=SCHEDULING,
          twin="inference_extension_scheduler_e2e_duration_seconds"),
    _llmd("counter", "scheduler_attempts_total", "Scheduling decisions and their outcome.",
          ("status", "target_model_name", "endpoint_name", "namespace", "port"),
          twin="inference_extension_scheduler_attempts_total",
          twin_labels=("status", "target_model_name", "pod_name=endpoint_name", "namespace", "port")),
    _llmd("histogram", "plugin_duration_seconds", "Time of one plugin call (a sample of them).", PLUGIN, SCHEDULING,
          "inference_extension_plugin_duration_seconds"),
    _llmd("counter", "plugin_data_scope_violations_total", "Reads and writes that a plugin did not declare.",
          (*PLUGIN, "access")),
    _llmd("gauge", "info", "Build of the picker.", ("commit", "build_ref"), twin="inference_extension_info"),
    _llmd("counter", "model_rewrite_decisions_total", "Requests whose model name was rewritten.",
          ("model_rewrite_name", "model_name", "target_model"),
          twin="inference_extension_model_rewrite_decisions_total"),
    _llmd("counter", "datalayer_poll_errors_total", "Scrapes that failed.", ("source_type",),
          twin="llm_d_inference_scheduler_datalayer_poll_errors_total"),
    _llmd("counter", "datalayer_extract_errors_total", "Scrapes whose content could not be read.",
          ("source_type", "extractor_type"), twin="llm_d_inference_scheduler_datalayer_extract_errors_total"),
)

PREFIX = (
    _llmd("gauge", "prefix_indexer_size", "Entries of the prefix index.", OWNER,
          twin="inference_extension_prefix_indexer_size", twin_labels=()),
    _llmd("histogram", "prefix_indexer_hit_ratio", "Share of a prompt that the best endpoint holds.", OWNER, RATIOS,
          "inference_extension_prefix_indexer_hit_ratio", ()),
    _llmd("histogram", "prefix_indexer_hit_bytes", "Bytes of a prompt that the best endpoint holds.", OWNER,
          HIT_BYTES, "inference_extension_prefix_indexer_hit_bytes", ()),
)

STREAM = (
    _llmd("gauge", "extproc_streams_inflight", "Open ext_proc streams."),
    _llmd("histogram", "extproc_stream_duration_seconds", "Life of an ext_proc stream.", buckets=STREAMS),
    _llmd("counter", "extproc_streams_total", "Ended ext_proc streams by gRPC status code.", ("code",)),
)

OURS = (
    Spec("epp_plugin_faults_total", "counter", "Times a plugin broke its contract.", ("plugin", "kind")),
    Spec("epp_ended_total", "counter", "Requests that ended, by how.", ("cause",)),
    Spec("epp_estimated_prompt_tokens_total", "counter", "Prompt tokens of routed requests, as estimated here."),
    Spec("epp_scrapes_total", "counter", "Scrapes of endpoints by outcome.", ("outcome",)),
    Spec("epp_scrape_duration_seconds", "histogram", "Time of one scrape.", buckets=SCRAPES),
    Spec("epp_open_streams", "gauge", "Open ext_proc streams."),
)
# fmt: on

TABLE = (*REQUESTS, *POOL, *SCHEDULER, *PREFIX, *STREAM, *OURS)
