from __future__ import annotations

import pytest

from epp.errors import ConfigError
from epp.gateway.envoy_bootstrap import STRIPPED_HEADERS, EnvoySettings, build_bootstrap
from epp.headers import RESERVED_HEADERS


def made(**settings):
    addresses = {"picker_address": "127.0.0.1:9002", "endpoints": ("127.0.0.1:8000",)}
    return build_bootstrap(EnvoySettings(**{**addresses, **settings}))


def manager(config):
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def filters(config):
    return {one["name"]: one["typed_config"] for one in manager(config)["http_filters"]}


def clusters(config):
    return {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}


def test_control_headers_are_removed_before_the_picker_sees_the_request():
    names = list(filters(made(subset_header="x-subset")))
    assert names == ["subset", "strip", "picker", "router"]
    strip = filters(made(subset_header="x-subset"))["strip"]["mutations"]["request_mutations"]
    assert [one["remove"] for one in strip] == [*STRIPPED_HEADERS, "x-subset"]


def test_what_the_picker_takes_for_a_forgery_is_removed_even_when_there_is_no_picker():
    strip = filters(made(picker_address=""))["strip"]["mutations"]["request_mutations"]
    assert {one["remove"] for one in strip} >= RESERVED_HEADERS


def test_the_response_phase_is_asked_for_only_when_somebody_reads_it():
    def response(**settings):
        mode = filters(made(**settings))["picker"]["processing_mode"]
        return mode["response_header_mode"], mode["response_body_mode"]

    assert response() == ("SKIP", "NONE")
    assert response(completion="scrape") == ("SKIP", "NONE")
    assert response(observe_responses=True) == ("SEND", "FULL_DUPLEX_STREAMED")
    assert response(completion="extproc") == ("SEND", "FULL_DUPLEX_STREAMED")
    assert response(completion="extproc", body_mode="BUFFERED") == ("SEND", "STREAMED")


def test_the_access_log_goes_to_the_picker_only_if_it_wants_it():
    (log,) = manager(made())["access_log"]
    assert log["typed_config"]["common_config"]["grpc_service"] == {"envoy_grpc": {"cluster_name": "picker-log"}}
    assert "picker-log" in clusters(made())
    assert "access_log" not in manager(made(completion="extproc"))
    assert "picker-log" not in clusters(made(completion="extproc"))


def test_known_endpoints_are_chosen_by_metadata_alone():
    policy = clusters(made())["pool"]["load_balancing_policy"]["policies"][0]["typed_extension_config"]["typed_config"]
    key = {"key": "envoy.lb", "path": [{"key": "x-gateway-destination-endpoint"}]}
    assert policy["override_host_sources"] == [{"metadata": key}]
    assert policy["selected_host_key"]["path"] == [{"key": "x-gateway-destination-endpoint-served"}]


def test_unknown_endpoints_are_the_destination_header():
    pool = clusters(made(shape="original_dst", endpoints=()))["pool"]
    assert pool["original_dst_lb_config"]["http_header_name"] == "x-gateway-destination-endpoint"


def test_without_a_picker_there_is_plain_round_robin():
    config = made(picker_address="")
    assert list(clusters(config)) == ["pool"]
    assert list(filters(config)) == ["strip", "router"]
    policy = clusters(config)["pool"]["load_balancing_policy"]["policies"][0]["typed_extension_config"]
    assert policy["name"] == "envoy.load_balancing_policies.round_robin"


def test_every_contradiction_is_named():
    with pytest.raises(ConfigError) as caught:
        made(shape="original_dst", fail_open=True, picker_address="", endpoints=("localhost:8000",))
    assert [problem.path for problem in caught.value.problems] == ["fail_open", "shape", "localhost:8000"]


def test_failing_open_would_double_streamed_bodies():
    with pytest.raises(ConfigError, match="sends parts of the body twice"):
        made(fail_open=True, body_mode="STREAMED")
