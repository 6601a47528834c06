"""What is larger than we take."""

from __future__ import annotations

from epp.extproc.session import Limits
from epp.testing.actions import asks, closes, sends_choice, sends_error
from epp.testing.events import (
    chooses,
    half_closes,
    request_body,
    request_headers,
)
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"


def test_a_body_above_the_limit_is_refused_without_being_kept():
    (
        Playbook(Limits(body=10))
        .gets(request_headers(), request_body(b"123456"), request_body(b"78901"))
        .does(sends_error(413), closes())
        .gets(request_body(b"x" * 1000), request_body(b"", end=True), half_closes())
        .run()
    )


def test_a_body_announced_above_the_limit_is_refused_before_it_comes():
    play = Playbook(Limits(body=10)).gets(request_headers(headers={"content-length": "11"}))
    play.does(sends_error(413), closes()).run()


def test_headers_above_the_limit():
    play = Playbook(Limits(headers=200)).gets(request_headers(headers={"cookie": "x" * 200}))
    play.does(sends_error(431), closes()).run()


def test_a_long_subset_hint_is_not_counted_as_headers():
    hint = [f"10.0.0.{i}:8000" for i in range(100)]
    play = Playbook(Limits(headers=200)).gets(request_headers(end=True, subset=hint))
    play.does(asks(end=True, subset=tuple(hint))).gets(chooses(POD, observe=False)).does(sends_choice(POD), closes())
    play.run()
