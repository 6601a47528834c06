"""The Envoy bootstrap for each combination of settings."""

from __future__ import annotations

import pytest

from epp.errors import ConfigError
from epp.gateway.envoy_bootstrap import STRIPPED_HEADERS, EnvoySettings, build_bootstrap
from epp.headers import RESERVED_HEADERS


def build(**settings):
    addresses = {"picker_address": "127.0.0.1:9002", "endpoints": ("127.0.0.1:8000",)}
    return build_bootstrap(EnvoySettings(**{**addresses, **settings}))


def manager(config):
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def filters(config):
    return {filter_["name"]: filter_["typed_config"] for filter_ in manager(config)["http_filters"]}


def clusters(config):
    return {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}


def test_reserved_headers_are_removed_before_ext_proc():
    names = list(filters(build(subset_header="x-subset")))
    assert names == ["subset", "strip", "picker", "router"]
    strip = filters(build(subset_header="x-subset"))["strip"]["mutations"]["request_mutations"]
    assert [mutation["remove"] for mutation in strip] == [*STRIPPED_HEADERS, "x-subset"]


def test_all_reserved_headers_are_removed_even_without_a_picker():
    strip = filters(build(picker_address=""))["strip"]["mutations"]["request_mutations"]
    assert {mutation["remove"] for mutation in strip} >= RESERVED_HEADERS


def test_the_response_phase_is_sent_only_if_the_picker_uses_it():
    def response(**settings):
        mode = filters(build(**settings))["picker"]["processing_mode"]
        return mode["response_header_mode"], mode["response_body_mode"]

    assert response() == ("SKIP", "NONE")
    assert response(completion="scrape") == ("SKIP", "NONE")
    assert response(observe_responses=True) == ("SEND", "FULL_DUPLEX_STREAMED")
    assert response(completion="extproc") == ("SEND", "FULL_DUPLEX_STREAMED")
    assert response(completion="extproc", body_mode="BUFFERED") == ("SEND", "STREAMED")


def test_the_access_log_is_sent_only_for_completion_by_access_log():
    (log,) = manager(build())["access_log"]
    assert log["typed_config"]["common_config"]["grpc_service"] == {"envoy_grpc": {"cluster_name": "picker-log"}}
    assert "picker-log" in clusters(build())
    assert "access_log" not in manager(build(completion="extproc"))
    assert "picker-log" not in clusters(build(completion="extproc"))


def test_override_host_reads_the_destination_from_metadata_only():
    policy = clusters(build())["pool"]["load_balancing_policy"]["policies"][0]["typed_extension_config"]["typed_config"]
    key = {"key": "envoy.lb", "path": [{"key": "x-gateway-destination-endpoint"}]}
    assert policy["override_host_sources"] == [{"metadata": key}]
    assert policy["selected_host_key"]["path"] == [{"key": "x-gateway-destination-endpoint-served"}]


def test_original_dst_uses_the_destination_header():
    pool = clusters(build(shape="original_dst", endpoints=()))["pool"]
    assert pool["original_dst_lb_config"]["http_header_name"] == "x-gateway-destination-endpoint"


def test_without_a_picker_load_balancing_is_round_robin():
    config = build(picker_address="")
    assert list(clusters(config)) == ["pool"]
    assert list(filters(config)) == ["strip", "router"]
    policy = clusters(config)["pool"]["load_balancing_policy"]["policies"][0]["typed_extension_config"]
    assert policy["name"] == "envoy.load_balancing_policies.round_robin"


def test_every_contradiction_of_the_settings_is_named():
    with pytest.raises(ConfigError) as caught:
        build(shape="original_dst", fail_open=True, picker_address="", endpoints=("localhost:8000",))
    assert [problem.path for problem in caught.value.problems] == ["fail_open", "shape", "localhost:8000"]


def test_failing_open_is_refused_with_streamed_bodies():
    with pytest.raises(ConfigError, match="Envoy would send parts of the body twice"):
        build(fail_open=True, body_mode="STREAMED")
