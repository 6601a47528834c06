"""What changes in the headers of a request."""

from __future__ import annotations

import pytest

from epp.extproc.codec import NO_MUTATION
from epp.extproc.header_mutation import (
    CONTROL_HEADERS,
    RESERVED_HEADERS,
    build_header_mutation,
    extract_control_headers,
)

NONE: frozenset[str] = frozenset()


def test_a_request_without_control_headers_is_left_alone():
    headers = {":path": "/v1/completions", "x-request-id": "1"}
    assert extract_control_headers(headers) == NONE
    assert headers == {":path": "/v1/completions", "x-request-id": "1"}
    assert build_header_mutation(NONE, {}, None) is NO_MUTATION


@pytest.mark.parametrize("name", sorted(CONTROL_HEADERS))
def test_what_a_client_asks_for_is_for_the_decision_only(name: str):
    headers = {name: "a"}
    came = extract_control_headers(headers)
    assert headers == {name: "a"}
    assert build_header_mutation(came, {}, None).remove_headers == (name,)


@pytest.mark.parametrize("name", sorted(RESERVED_HEADERS - {"x-gateway-destination-endpoint"}))
def test_forgeries_reach_neither_the_decision_nor_the_model_server(name: str):
    headers = {name: "10.0.0.9:1"}
    came = extract_control_headers(headers)
    assert headers == {}
    assert build_header_mutation(came, {}, None).remove_headers == (name,)


def test_a_forged_destination_is_overwritten_not_removed():
    headers = {"x-gateway-destination-endpoint": "10.0.0.9:1"}
    came = extract_control_headers(headers)
    assert headers == {}
    assert build_header_mutation(came, {}, None).remove_headers == ()


def test_what_we_set_ourselves_is_not_removed():
    came = frozenset({"x-prefiller-host-port", "x-slo-ttft-ms"})
    changes = build_header_mutation(came, {"X-Prefiller-Host-Port": "10.0.0.2:8000"}, None)
    assert changes.set_headers == {"x-prefiller-host-port": "10.0.0.2:8000"}
    assert changes.remove_headers == ("x-slo-ttft-ms",)


def test_the_destination_is_set_by_the_choice_alone():
    assert build_header_mutation(NONE, {"x-gateway-destination-endpoint": "10.0.0.9:1"}, None).set_headers == {}


@pytest.mark.parametrize(("body", "length"), [(b"", "0"), (b"four", "4")])
def test_a_body_that_is_replaced_brings_its_length(body: bytes, length: str):
    assert build_header_mutation(NONE, {"x-request-id": "1"}, body).set_headers == {
        "x-request-id": "1",
        "content-length": length,
    }
