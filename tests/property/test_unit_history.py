"""Unit histories of arbitrary events, and the axis and step functions of arbitrary intervals."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.report.run_timeline import TimeAxis
from epp_batch.report.stats import build_step_function, integrate_steps, merge_intervals, peak_level
from epp_batch.report.unit_history import UnitAttempt, build_unit_histories
from epp_batch.timeline import EventKind, TimelineEvent

gaps = st.floats(1, 1e4).map(lambda value: round(value, 3))  # a second apart: equal events are one event
endings = st.sampled_from(["finished", "failed", "cancelled", None])


class ExpectedUnit:
    """What happened to a unit, and the events of it."""

    def __init__(self, name):
        self.name = name
        self.events = []
        self.attempts = []
        self.evictions = self.retries = 0
        self.final = None

    def add_event(self, at, kind, **other):
        self.events.append(TimelineEvent(at=at, unit=self.name, kind=kind, **other))


@st.composite
def units(draw, name="u"):
    """A unit under Kueue: waits, is admitted, evicted, retried; ends or stays open."""
    expected = ExpectedUnit(name)
    now = expected.created = draw(st.floats(0, 1e5).map(lambda value: round(value, 3)))
    expected.add_event(now, "created")
    expected.add_event(now, "queued")
    for attempt in range(1, draw(st.integers(0, 4)) + 1):
        now += draw(gaps)
        expected.add_event(now, "reserved", attempt=attempt)
        expected.add_event(now, "admitted", attempt=attempt)
        allocated, place = now, f"node/gpu-{draw(st.integers(0, 7))}"
        for _ in range(draw(st.integers(0, 2))):
            now += draw(gaps)
            expected.add_event(now, "running", place=place, attempt=attempt)
            now += draw(gaps)
            expected.add_event(now, "retried", attempt=attempt)
            expected.attempts.append((allocated, now, "retried"))
            expected.retries += 1
            allocated = now
        now += draw(gaps)
        expected.add_event(now, "running", place=place, attempt=attempt)
        now += draw(gaps)
        ending = draw(endings)
        if ending:
            expected.add_event(now, ending)
            expected.attempts.append((allocated, now, ending))
            expected.final = (ending, now)
            break
        expected.add_event(now, "evicted", attempt=attempt)
        expected.add_event(now, "requeued", attempt=attempt)
        expected.attempts.append((allocated, now, "evicted"))
        expected.evictions += 1
    return expected


def attempts_of(history):
    return [(attempt.allocated, attempt.ended, attempt.ending) for attempt in history.attempts]


def check(history, expected):
    assert attempts_of(history) == expected.attempts
    assert (history.evictions, history.retries) == (expected.evictions, expected.retries)
    assert history.created == expected.created
    assert (history.end and (history.end.state, history.end.at)) == expected.final


@given(units())
def test_attempts_match_the_events(expected):
    check(build_unit_histories(expected.events)["u"], expected)


@given(units("a"), units("b"), st.randoms(use_true_random=False))
def test_histories_do_not_depend_on_other_units(one, other, random):
    queues = [list(one.events), list(other.events)]
    mixed = []
    while any(queues):
        mixed.append(random.choice([queue for queue in queues if queue]).pop(0))
    found = build_unit_histories(mixed)
    check(found["a"], one)
    check(found["b"], other)


@given(units(), st.data())
def test_repeated_events_of_a_restarted_controller_count_once(expected, data):
    """A restarted controller reads the cluster and writes what it finds again, from any point back."""
    died = data.draw(st.integers(0, len(expected.events)))
    again = data.draw(st.integers(0, died))
    check(build_unit_histories(expected.events[:died] + expected.events[again:])["u"], expected)


@given(units())
def test_timestamps_in_whole_seconds_change_times_by_less_than_one(expected):
    """A cluster's timestamps have no fractions: endings stay the same."""
    cut = [
        event if event.kind == "created" else TimelineEvent(**{**fields(event), "at": math.floor(event.at)})
        for event in expected.events
    ]
    history = build_unit_histories(cut)["u"]
    assert [ending for *_, ending in attempts_of(history)] == [ending for *_, ending in expected.attempts]
    for (allocated, ended, _), (true_allocated, true_ended, _) in zip(
        attempts_of(history), expected.attempts, strict=True
    ):
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
def test_arbitrary_events_give_attempts_without_overlaps(events, restarts):
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
def test_a_step_function_counts_intervals_and_its_area_is_their_sum(pairs):
    steps = build_step_function(pairs)
    assert integrate_steps(steps) == sum(end - begin for begin, end in pairs)
    level = dict.fromkeys(range(51), 0)
    for second in level:
        level[second] = sum(begin <= second < end for begin, end in pairs)
    assert peak_level(steps) == max(level.values())
    assert all(level[at] == count for at, count in steps)
    assert not steps or steps[-1][1] == 0


@given(intervals)
def test_the_axis_counts_busy_seconds_once_and_is_monotonic(pairs):
    axis = TimeAxis(pairs, min_idle=0)
    busy = {second for begin, end in pairs for second in range(begin, end)}
    assert axis.length == len(busy)
    places = [axis.second_of(at) for at in range(-1, 52)]
    assert places == sorted(places)
    assert axis.length + sum(cut.seconds for cut in axis.idle_cuts()) == sum(
        [merge_intervals(pairs)[-1][1] - merge_intervals(pairs)[0][0]] if pairs else []
    )
    for begin, end in pairs:
        assert axis.second_of(end) - axis.second_of(begin) == pytest.approx(end - begin)


def test_an_attempt_without_end_is_open():
    events = [TimelineEvent(at=1, unit="a", kind="created"), TimelineEvent(at=2, unit="a", kind="running", place="n")]
    assert build_unit_histories(events)["a"].attempts == [UnitAttempt(number=1, allocated=2, running=2, place="n")]
