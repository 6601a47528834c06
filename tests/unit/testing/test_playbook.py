"""The Playbook itself: a transcript that differs fails with a diff."""

from __future__ import annotations

import pytest

from epp.testing.actions import (
    ANY,
    closes_stream,
    delivers_event,
    requests_decision,
    sends_immediate_response,
    sends_route,
)
from epp.testing.events import request_headers, resets, routes
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"
OTHER = "10.0.0.2:8000"


def playbook_of_a_request() -> Playbook:
    return Playbook().receives(request_headers("/v1/models", end=True)).expects(requests_decision(end=True))


def test_a_matching_transcript_passes():
    playbook_of_a_request().receives(routes(POD)).expects(sends_route(POD)).receives(resets()).expects(
        delivers_event(ended="disconnected")
    ).run()


@pytest.mark.parametrize(
    ("actions", "expected", "actual"),
    [
        (
            [sends_route(OTHER)],
            f"-   << sends_route(destination='{OTHER}'",
            f"+   << sends_route(destination='{POD}'",
        ),
        ([sends_route(POD), closes_stream()], "-   << closes_stream(status=0)", ""),
        ([], "", f"+   << sends_route(destination='{POD}'"),
    ],
)
def test_a_differing_transcript_fails_with_a_diff(actions, expected, actual):
    with pytest.raises(AssertionError) as failure:
        playbook_of_a_request().receives(routes(POD)).expects(*actions).run()
    rows = str(failure.value).splitlines()
    assert rows[1].startswith("  >> request_headers(method='POST', path='/v1/models'")
    for row in filter(None, (expected, actual)):
        assert any(line.startswith(row) for line in rows), rows


def test_any_matches_every_value():
    assert sends_immediate_response(503).matches(sends_immediate_response(503, text="inference error"))
    assert not sends_immediate_response(503).matches(sends_immediate_response(500, text=ANY))


async def test_a_playbook_runs_on_the_running_loop():
    await (
        playbook_of_a_request()
        .receives(routes(POD, observe=False))
        .expects(sends_route(POD), closes_stream())
        .run_async()
    )


def test_a_playbook_that_is_never_run_warns():
    with pytest.warns(ResourceWarning, match="never run"):
        playbook_of_a_request()


def test_events_and_actions_are_checked():
    playbook = Playbook()
    with pytest.raises(AssertionError, match="takes events"):
        playbook.receives(closes_stream())
    with pytest.raises(AssertionError, match="takes actions"):
        playbook.expects(resets())
