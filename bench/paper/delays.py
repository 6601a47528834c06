"""What the control plane took in a real run, step by step, and the model run again with it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from bench.paper.arms import Found
from epp_batch.planner import Delays, outcome, run
from epp_batch.timeline import Event


def again(found: Found, events: Sequence[Event]) -> Found:
    """The same order, with the medians of a real run: the time between two Jobs, how long a pod takes to start, how
    much longer than its time it runs, how long freed quota stays unused, how long a victim takes to go.
    """
    runs = {demand.unit: demand.seconds for demand in found.order}
    over = _median(_overruns(events, runs))
    delays = Delays(
        submit=_median(_gaps(events)),
        requeue=_median(_idle(events)),
        start=_median(_between(events, "admitted", "running") if found.queued else _pending(events)),
        stop=_median(_between(events, "evicted", "admitted", other=True)),
    )
    order = [msgspec.structs.replace(demand, startup=demand.startup + over) for demand in found.order]
    kueue = found.world.kueue if found.queued else None
    world = msgspec.structs.replace(found.world, kueue=kueue, delays=delays)
    simulated = run(world, order)
    return found._replace(world=world, order=order, events=simulated, figures=outcome(simulated))


def _median(values: Iterable[float]) -> float:
    """0 for none; nothing takes less."""
    found = list(values)
    return max(0.0, statistics.median(found)) if found else 0.0


def _gaps(events: Sequence[Event]) -> Iterable[float]:
    return (second - first for first, second in pairwise(event.at for event in events if event.kind == "created"))


def _between(events: Sequence[Event], first: str, second: str, *, other: bool = False) -> Iterable[float]:
    """From each `first` to the next `second` of the same unit, or of another one."""
    for i, event in enumerate(events):
        if event.kind == first:
            after = (e.at for e in events[i:] if e.kind == second and (e.unit != event.unit) == other)
            if (at := next(after, None)) is not None:
                yield at - event.at


def _pending(events: Sequence[Event]) -> Iterable[float]:
    """From creation to the start, for those that did not have to wait for anybody's end."""
    first_end = next((event.at for event in events if event.kind == "finished"), 0.0)
    created = {event.unit: event.at for event in events if event.kind == "created"}
    return (e.at - created[e.unit] for e in events if e.kind == "running" and e.at < first_end)


def _overruns(events: Sequence[Event], runs: dict[str, float]) -> Iterable[float]:
    started: dict[str, float] = {}
    for event in events:
        if event.kind == "running":
            started[event.unit] = event.at
        elif event.kind == "finished":
            yield event.at - started[event.unit] - runs[event.unit]


def _idle(events: Sequence[Event]) -> Iterable[float]:
    """From an end to the next admission, where somebody was waiting."""
    ends = [event.at for event in events if event.kind == "finished"]
    for event in events:
        if event.kind == "admitted" and ends and event.at > ends[0]:
            yield event.at - max(end for end in ends if end <= event.at)
