"""Attempts from events: whatever a cluster, a scheduler and a driver that dies may write."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.report.axis import TimeAxis
from epp_batch.report.step_function import build_step_function, integrate_steps, merge_intervals, peak_level
from epp_batch.report.unit_history import UnitAttempt, build_unit_histories
from epp_batch.timeline import EventKind, TimelineEvent

gaps = st.floats(1, 1e4).map(lambda value: round(value, 3))  # a second apart: equal events are one event
endings = st.sampled_from(["finished", "failed", "cancelled", None])


class Told:
    """A unit's life as it was, with its events."""

    def __init__(self, name):
        self.name = name
        self.events = []
        self.attempts = []
        self.evictions = self.retries = 0
        self.final = None

    def say(self, at, kind, **other):
        self.events.append(TimelineEvent(at=at, unit=self.name, kind=kind, **other))


@st.composite
def lives(draw, name="u"):
    """One life under Kueue: waits, is admitted, evicted, retried, ends or does not."""
    told = Told(name)
    now = told.created = draw(st.floats(0, 1e5).map(lambda value: round(value, 3)))
    told.say(now, "created")
    told.say(now, "queued")
    for attempt in range(1, draw(st.integers(0, 4)) + 1):
        now += draw(gaps)
        told.say(now, "reserved", attempt=attempt)
        told.say(now, "admitted", attempt=attempt)
        allocated, place = now, f"node/gpu-{draw(st.integers(0, 7))}"
        for _ in range(draw(st.integers(0, 2))):
            now += draw(gaps)
            told.say(now, "running", place=place, attempt=attempt)
            now += draw(gaps)
            told.say(now, "retried", attempt=attempt)
            told.attempts.append((allocated, now, "retried"))
            told.retries += 1
            allocated = now
        now += draw(gaps)
        told.say(now, "running", place=place, attempt=attempt)
        now += draw(gaps)
        ending = draw(endings)
        if ending:
            told.say(now, ending)
            told.attempts.append((allocated, now, ending))
            told.final = (ending, now)
            break
        told.say(now, "evicted", attempt=attempt)
        told.say(now, "requeued", attempt=attempt)
        told.attempts.append((allocated, now, "evicted"))
        told.evictions += 1
    return told


def seen(history):
    return [(attempt.allocated, attempt.ended, attempt.ending) for attempt in history.attempts]


def expect(history, told):
    assert seen(history) == told.attempts
    assert (history.evictions, history.retries) == (told.evictions, told.retries)
    assert history.created == told.created
    assert (history.end and (history.end.state, history.end.at)) == told.final


@given(lives())
def test_attempts_are_what_happened(told):
    expect(build_unit_histories(told.events)["u"], told)


@given(lives("a"), lives("b"), st.randoms(use_true_random=False))
def test_units_do_not_disturb_each_other(one, other, random):
    queues = [list(one.events), list(other.events)]
    mixed = []
    while any(queues):
        mixed.append(random.choice([queue for queue in queues if queue]).pop(0))
    found = build_unit_histories(mixed)
    expect(found["a"], one)
    expect(found["b"], other)


@given(lives(), st.data())
def test_a_driver_that_starts_again_may_tell_everything_again(told, data):
    """It reads the cluster anew and writes what it finds, from any point backwards."""
    died = data.draw(st.integers(0, len(told.events)))
    again = data.draw(st.integers(0, died))
    expect(build_unit_histories(told.events[:died] + told.events[again:])["u"], told)


@given(lives())
def test_whole_seconds_move_no_attempt_by_more_than_one(told):
    """A cluster's times have no fractions: counts stay, times move less than a second."""
    cut = [
        event if event.kind == "created" else TimelineEvent(**{**fields(event), "at": math.floor(event.at)})
        for event in told.events
    ]
    history = build_unit_histories(cut)["u"]
    assert [ending for *_, ending in seen(history)] == [ending for *_, ending in told.attempts]
    for (allocated, ended, _), (true_allocated, true_ended, _) in zip(seen(history), told.attempts, strict=True):
        assert abs(allocated - true_allocated) <= 1
        assert abs(ended - true_ended) <= 1
        assert ended >= allocated


def fields(event):
    return {name: getattr(event, name) for name in event.__struct_fields__}


anything = st.builds(
    TimelineEvent,
    at=st.floats(0, 100),
    unit=st.sampled_from("abc"),
    kind=st.sampled_from(get_args(EventKind)),
    place=st.sampled_from(["", "n/gpu-0", "n/gpu-1"]),
    stem=st.sampled_from(["", "x", "y"]),
    attempt=st.integers(0, 3),
)


@given(st.lists(anything, max_size=40), st.booleans())
def test_nonsense_is_read_without_overlaps(events, restarts):
    """A unit never holds two devices, ends after it began, and only its last attempt may be open."""
    for history in build_unit_histories(events, {"b": 2}, restarts=restarts).values():
        now = min([history.created, *(created for created, _ in history.earlier_lifetimes)])
        for attempt in history.attempts:
            assert now <= attempt.allocated
            if attempt.running is not None:
                assert attempt.running >= attempt.allocated
            if attempt.ended is None:
                assert attempt is history.attempts[-1]
                assert attempt.ending == "open"
                assert history.end is None
            else:
                assert attempt.ended >= (attempt.running or attempt.allocated)
                now = attempt.ended
        lived = [*history.earlier_lifetimes, (history.created, history.end.at if history.end else math.inf)]
        assert all(begin <= end for begin, end in lived)
        assert all(before[1] <= after[0] for before, after in pairwise(lived))


intervals = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: tuple(sorted(pair))), max_size=30
)


@given(intervals)
def test_the_curve_counts_and_its_area_is_the_sum_of_spans(pairs):
    steps = build_step_function(pairs)
    assert integrate_steps(steps) == sum(end - begin for begin, end in pairs)
    level = dict.fromkeys(range(51), 0)
    for second in level:
        level[second] = sum(begin <= second < end for begin, end in pairs)
    assert peak_level(steps) == max(level.values())
    assert all(level[at] == count for at, count in steps)
    assert not steps or steps[-1][1] == 0


@given(intervals)
def test_the_axis_counts_busy_seconds_once_and_never_runs_back(pairs):
    axis = TimeAxis(pairs, least=0)
    busy = {second for begin, end in pairs for second in range(begin, end)}
    assert axis.length == len(busy)
    places = [axis(at) for at in range(-1, 52)]
    assert places == sorted(places)
    assert axis.length + sum(cut.seconds for cut in axis.idle_cuts()) == sum(
        [merge_intervals(pairs)[-1][1] - merge_intervals(pairs)[0][0]] if pairs else []
    )
    for begin, end in pairs:
        assert axis(end) - axis(begin) == pytest.approx(end - begin)


def test_open_attempts_are_open():
    events = [TimelineEvent(at=1, unit="a", kind="created"), TimelineEvent(at=2, unit="a", kind="running", place="n")]
    assert build_unit_histories(events)["a"].attempts == [UnitAttempt(number=1, allocated=2, running=2, place="n")]
