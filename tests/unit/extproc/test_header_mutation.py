"""What the picker changes in the headers of a request."""

from __future__ import annotations

import pytest

from epp.extproc.codec import NO_MUTATION
from epp.extproc.header_mutation import build_header_mutation, extract_control_headers
from epp.headers import CONTROL_HEADERS, RESERVED_HEADERS

NONE: frozenset[str] = frozenset()


def test_a_request_without_control_headers_is_not_mutated():
    headers = {":path": "/v1/completions", "x-request-id": "1"}
    assert extract_control_headers(headers) == NONE
    assert headers == {":path": "/v1/completions", "x-request-id": "1"}
    assert build_header_mutation(NONE, {}, None) is NO_MUTATION


@pytest.mark.parametrize("name", sorted(CONTROL_HEADERS))
def test_control_headers_reach_the_decision_only(name: str):
    headers = {name: "a"}
    stripped = extract_control_headers(headers)
    assert headers == {name: "a"}
    assert build_header_mutation(stripped, {}, None).remove_headers == (name,)


@pytest.mark.parametrize("name", sorted(RESERVED_HEADERS - {"x-gateway-destination-endpoint"}))
def test_reserved_headers_reach_neither_decision_nor_model_server(name: str):
    headers = {name: "10.0.0.9:1"}
    stripped = extract_control_headers(headers)
    assert headers == {}
    assert build_header_mutation(stripped, {}, None).remove_headers == (name,)


def test_a_forged_destination_is_overwritten_not_removed():
    headers = {"x-gateway-destination-endpoint": "10.0.0.9:1"}
    stripped = extract_control_headers(headers)
    assert headers == {}
    assert build_header_mutation(stripped, {}, None).remove_headers == ()


def test_headers_that_the_picker_sets_are_not_removed():
    stripped = frozenset({"x-prefiller-host-port", "x-slo-ttft-ms"})
    mutation = build_header_mutation(stripped, {"X-Prefiller-Host-Port": "10.0.0.2:8000"}, None)
    assert mutation.set_headers == {"x-prefiller-host-port": "10.0.0.2:8000"}
    assert mutation.remove_headers == ("x-slo-ttft-ms",)


def test_only_the_routing_decision_sets_the_destination():
    assert build_header_mutation(NONE, {"x-gateway-destination-endpoint": "10.0.0.9:1"}, None).set_headers == {}


@pytest.mark.parametrize(("body", "length"), [(b"", "0"), (b"four", "4")])
def test_a_replaced_body_sets_content_length(body: bytes, length: str):
    mutation = build_header_mutation(NONE, {"x-request-id": "1"}, body)
    assert mutation.set_headers == {"x-request-id": "1", "content-length": length}
