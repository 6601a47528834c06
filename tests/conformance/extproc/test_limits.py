"""Requests above the limits of body and headers."""

from __future__ import annotations

from epp.extproc.session import RequestLimits
from epp.testing.actions import closes_stream, requests_decision, sends_immediate_response, sends_route
from epp.testing.events import (
    half_closes,
    request_body,
    request_headers,
    routes,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"


def test_a_body_above_the_limit_is_a_413_and_dropped():
    (
        Playbook(RequestLimits(max_body_bytes=10))
        .receives(request_headers(), request_body(b"123456"), request_body(b"78901"))
        .expects(sends_immediate_response(413), closes_stream())
        .receives(request_body(b"x" * 1000), request_body(b"", end=True), half_closes())
        .run()
    )


def test_a_content_length_above_the_limit_is_a_413_at_the_headers():
    play = Playbook(RequestLimits(max_body_bytes=10)).receives(request_headers(headers={"content-length": "11"}))
    play.expects(sends_immediate_response(413), closes_stream()).run()


def test_headers_above_the_limit_are_a_431():
    play = Playbook(RequestLimits(max_header_bytes=200)).receives(request_headers(headers={"cookie": "x" * 200}))
    play.expects(sends_immediate_response(431), closes_stream()).run()


def test_a_subset_hint_does_not_count_as_headers():
    hint = [f"10.0.0.{i}:8000" for i in range(100)]
    play = Playbook(RequestLimits(max_header_bytes=200)).receives(request_headers(end=True, subset=hint))
    play.expects(requests_decision(end=True, subset=tuple(hint))).receives(routes(POD, observe=False)).expects(
        sends_route(POD), closes_stream()
    )
    play.run()
