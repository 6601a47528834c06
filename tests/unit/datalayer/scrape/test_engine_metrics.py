"""What the core metrics extractor reads from the pages of each engine, and parameters of source and extractor."""

import math

import msgspec
import pytest

from epp.api import (
    KV_BLOCK_COUNT,
    KV_BLOCK_SIZE,
    KV_CACHE_USAGE,
    MAX_LORAS,
    NO_LORA_ADAPTERS,
    RUNNING_REQUESTS,
    WAITING_REQUESTS,
    LoraAdapters,
)
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor
from epp.datalayer.scrape.metrics_data_source import MetricsDataSource
from epp.datalayer.scrape.promtext import ABSENT_RECHECK_PAGES
from epp.errors import DataSourceError


def extractor(**parameters: object) -> CoreMetricsExtractor:
    return msgspec.convert(parameters, CoreMetricsExtractor)


def known(reading):
    """Column names and values of a reading, unknown ones left out."""
    values, _ = reading
    return {column.name: value for column, value in values.items() if not math.isnan(value)}


def test_a_captured_vllm_page(capture, labelled):
    values, adapters = extractor().open(labelled()).read(capture)
    assert values == {
        WAITING_REQUESTS: 24,
        RUNNING_REQUESTS: 16,
        KV_CACHE_USAGE: 0.0703296703296703,
        KV_BLOCK_SIZE: 32,
        KV_BLOCK_COUNT: 4096,
        MAX_LORAS: 2,
    }
    both = frozenset({"l1", "l2"})
    assert adapters == LoraAdapters(running=both, waiting=both)


def test_the_lora_series_with_the_greatest_value_is_current(labelled):
    page = b"""vllm:num_requests_waiting 0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.5e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="l1, l2",waiting_lora_adapters="l3"} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1.6e+09
"""
    reader = extractor().open(labelled())
    assert reader.read(page)[1] == LoraAdapters(running=frozenset({"l1", "l2"}), waiting=frozenset({"l3"}))
    _, adapters = reader.read(page.replace(b"1.6e+09", b"1.8e+09"))
    assert adapters == NO_LORA_ADAPTERS


def test_series_of_data_parallel_engines_are_aggregated(labelled):
    page = b"""vllm:num_requests_waiting{engine="0"} 3.0
vllm:num_requests_waiting{engine="1"} 4.0
vllm:num_requests_running{engine="0"} 1.0
vllm:num_requests_running{engine="1"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.2
vllm:kv_cache_usage_perc{engine="1"} 0.6
vllm:cache_config_info{block_size="16",num_gpu_blocks="100",engine="0"} 1.0
vllm:cache_config_info{block_size="16",num_gpu_blocks="150",engine="1"} 1.0
"""
    assert known(extractor().open(labelled()).read(page)) == {
        "waiting": 7,
        "running": 3,
        "kv_usage": 0.4,
        "block_size": 16,
        "block_count": 250,
    }


def test_the_kv_usage_name_of_older_vllm(labelled):
    page = b"vllm:num_requests_waiting 1\nvllm:gpu_cache_usage_perc 0.25\n"
    reader = extractor().open(labelled())
    assert [known(reader.read(page)) for _ in range(2)] == [{"waiting": 1, "kv_usage": 0.25}] * 2


@pytest.mark.parametrize(
    ("engine", "page", "values"),
    [
        (
            "sglang",
            b"""sglang:num_queue_reqs{model_name="m"} 2.0
sglang:num_running_reqs{model_name="m"} 3.0
sglang:token_usage{model_name="m"} 0.28
sglang:cache_config_info{num_pages="128",page_size="64"} 1.0
""",
            {"waiting": 2, "running": 3, "kv_usage": 0.28, "block_size": 64, "block_count": 128},
        ),
        (
            "trtllm-serve",
            b"""trtllm_num_requests_waiting 2
trtllm_num_requests_running 3
trtllm_kv_cache_utilization 0.5
trtllm_kv_cache_tokens_per_block 32
trtllm_kv_cache_max_blocks 1000
""",
            {"waiting": 2, "running": 3, "kv_usage": 0.5, "block_size": 32, "block_count": 1000},
        ),
        (
            "triton-tensorrt-llm",
            b"""nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 3
nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.5
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 6239
""",
            {"waiting": 2, "running": 3, "kv_usage": 0.5, "block_size": 64, "block_count": 6239},
        ),
        (
            "triton",
            b"""nv_inference_pending_request_count{model="a"} 1
nv_inference_pending_request_count{model="b"} 2
nv_inference_exec_count{model="a"} 5
""",
            {"waiting": 3, "running": 5},
        ),
    ],
)
def test_pages_of_the_other_engines(labelled, engine, page, values):
    assert known(extractor().open(labelled(engine)).read(page)) == values


def test_the_engine_is_named_by_a_label(labelled):
    ours = extractor(engineLabelKey="engine", defaultEngine="sglang")
    assert ours.engine_name(labelled()) == "sglang"
    assert ours.engine_name(labelled(engine="triton")) == "triton"
    assert ours.engine_name(labelled(**{"inference.networking.k8s.io/engine-type": "vllm"})) == "vllm"
    assert ours.engine_name(labelled(engine="undefined")) == "sglang"


def test_a_configured_engine_replaces_the_built_in_one(capture, labelled):
    own = {
        "name": "vllm",
        "queuedRequestsSpec": "vllm:num_requests_waiting_by_reason{reason=deferred}",
        "loraSpec": "",
        "customMetrics": [{"attributeKey": "hits", "metricSpec": "vllm:prefix_cache_hits_total"}],
    }
    ours = extractor(engineConfigs=[own])
    values, adapters = ours.open(labelled()).read(capture)
    assert values == {WAITING_REQUESTS: 5, ours.custom_columns["hits"]: 160}
    assert adapters == NO_LORA_ADAPTERS


def test_values_that_are_not_numbers_are_unknown(labelled):
    page = b"""vllm:num_requests_waiting{engine="0"} NaN
vllm:num_requests_running{engine="0"} NaN
vllm:num_requests_running{engine="1"} 2
vllm:kv_cache_usage_perc +Inf
vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1
"""
    assert known(extractor().open(labelled()).read(page)) == {"running": 2, "block_size": 16}


def test_a_page_without_series_of_the_engine_is_an_error_and_the_next_is_searched_in_full(capture, labelled):
    reader = extractor().open(labelled())
    for _ in range(3):
        with pytest.raises(DataSourceError, match="no series of engine 'vllm'"):
            reader.read(b"up 1\n")
    assert known(reader.read(capture))["waiting"] == 24


def test_a_metric_that_appears_is_found_after_some_pages(capture, labelled):
    reader = extractor().open(labelled())
    reader.read(capture.replace(b"vllm:lora_requests_info", b"vllm:other"))
    adapters = [reader.read(capture)[1] for _ in range(ABSENT_RECHECK_PAGES)]
    assert adapters[0] == NO_LORA_ADAPTERS
    assert adapters[-1].running == {"l1", "l2"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"engineConfigs": [{"name": "x", "kvUsageSpec": "a b"}]}, "`kvUsageSpec`: invalid metric specification 'a b'"),
        ({"engineConfigs": [{"name": "default"}]}, "'default' is reserved"),
        ({"engineConfigs": [{"name": ""}]}, "length >= 1"),
        ({"engineConfigs": [{"name": "x"}, {"name": "x"}]}, "defines x more than once"),
        ({"engineConfigs": [{"name": "x", "kvSpec": ""}]}, "unknown field `kvSpec`"),
        (
            {"engineConfigs": [{"name": "x", "customMetrics": [{"attributeKey": "a", "metricSpec": "!"}]}]},
            "invalid metric specification '!'",
        ),
        ({"defaultEngine": "x"}, r"`defaultEngine` 'x' is none of (\w.*, )?sglang, "),
    ],
)
def test_invalid_extractor_parameters(parameters, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        extractor(**parameters)


def test_source_parameters(labelled):
    source = msgspec.convert({"port": "9100", "path": "metrics", "interval": "100ms"}, MetricsDataSource)
    assert (source.metrics_port(labelled()), source.request_target, source.interval_seconds) == (9100, "/metrics", 0.1)
    default = MetricsDataSource()
    assert (default.metrics_port(labelled()), default.request_target, default.interval_seconds) == (
        8000,
        "/metrics",
        None,
    )
    assert default.insecure_skip_verify


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scheme": "ftp"}, "scheme"),
        ({"port": 70000}, "port"),
        ({"port": "70000"}, "`port`: invalid port 70000: expected 1-65535"),
        ({"interval": "soon"}, "interval"),
        ({"interval": "0s"}, "`interval` must be more than zero"),
        ({"clientCertPath": "/c"}, "must be given together"),
        ({"timeout": 1}, "unknown field"),
    ],
)
def test_invalid_source_parameters(parameters, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(parameters, MetricsDataSource)
