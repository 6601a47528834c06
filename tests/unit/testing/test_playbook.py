"""The Playbook itself: it fails when it must, and says why."""

from __future__ import annotations

import pytest

from epp.testing.actions import ANY, asks, closes, sends_choice, sends_error, tells
from epp.testing.events import breaks, chooses, request_headers
from epp.testing.playbook import Playbook

POD = "10.0.0.1:8000"
OTHER = "10.0.0.2:8000"


def asked() -> Playbook:
    return Playbook().gets(request_headers("/v1/models", end=True)).does(asks(end=True))


def test_a_stream_that_goes_as_written_passes():
    asked().gets(chooses(POD)).does(sends_choice(POD)).gets(breaks()).does(tells(ended="disconnected")).run()


@pytest.mark.parametrize(
    ("effects", "expected", "happened"),
    [
        (
            [sends_choice(OTHER)],
            f"-   << sends_choice(destination='{OTHER}'",
            f"+   << sends_choice(destination='{POD}'",
        ),
        ([sends_choice(POD), closes()], "-   << closes(status=0)", ""),
        ([], "", f"+   << sends_choice(destination='{POD}'"),
    ],
)
def test_a_stream_that_goes_otherwise_fails_with_both_transcripts(effects, expected, happened):
    with pytest.raises(AssertionError) as failure:
        asked().gets(chooses(POD)).does(*effects).run()
    rows = str(failure.value).splitlines()
    assert rows[1].startswith("  >> request_headers(method='POST', path='/v1/models'")
    for row in filter(None, (expected, happened)):
        assert any(line.startswith(row) for line in rows), rows


def test_details_may_be_left_open():
    assert sends_error(503).matches(sends_error(503, text="inference error"))
    assert not sends_error(503).matches(sends_error(500, text=ANY))


async def test_a_playbook_runs_within_a_loop():
    await asked().gets(chooses(POD, observe=False)).does(sends_choice(POD), closes()).played()


def test_a_playbook_that_is_never_run_warns():
    with pytest.warns(ResourceWarning, match="never run"):
        asked()


def test_events_and_effects_are_not_mixed_up():
    playbook = Playbook()
    with pytest.raises(AssertionError, match="takes events"):
        playbook.gets(closes())
    with pytest.raises(AssertionError, match="takes effects"):
        playbook.does(breaks())
