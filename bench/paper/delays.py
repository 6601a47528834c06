"""What the control plane took in a real run, step by step, and the model run again with it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from bench.paper.arms import Found
from epp_batch.planner import Delays, outcome, run
from epp_batch.timeline import Event, EventKind


def again(found: Found, events: Sequence[Event]) -> Found:
    """The same order, with the means of a real run: the time between two Jobs, how long a pod takes to start, how much
    longer than its time it runs, how long freed quota stays unused, how long a victim takes to go.
    """
    over = _mean(_overruns(events, {demand.unit: demand.seconds for demand in found.order}))
    delays = Delays(
        submit=_mean(second - first for first, second in pairwise(_times(events, "created"))),
        requeue=_mean(_idle(events)),
        start=_mean(_starts(events) if found.queued else _pending(events)),
        stop=_mean(_successions(events)),
    )
    order = [msgspec.structs.replace(demand, startup=demand.startup + over) for demand in found.order]
    world = msgspec.structs.replace(found.world, kueue=found.world.kueue if found.queued else None, delays=delays)
    simulated = run(world, order)
    return found._replace(world=world, order=order, events=simulated, figures=outcome(simulated))


def _mean(values: Iterable[float]) -> float:
    """0 for none; nothing takes less."""
    found = list(values)
    return max(0.0, statistics.fmean(found)) if found else 0.0


def _times(events: Sequence[Event], kind: EventKind) -> list[float]:
    return [event.at for event in events if event.kind == kind]


def _starts(events: Sequence[Event]) -> Iterable[float]:
    """From admission to the running pod, of those that were not preempted before."""
    admitted: dict[str, float] = {}
    for event in events:
        if event.kind == "admitted":
            admitted[event.unit] = event.at
        elif event.kind == "evicted":
            admitted.pop(event.unit, None)
        elif event.kind == "running" and event.unit in admitted:
            yield event.at - admitted[event.unit]


def _pending(events: Sequence[Event]) -> Iterable[float]:
    """From creation to the start, for those that did not have to wait for anybody's end."""
    first_end = min(_times(events, "finished"), default=0.0)
    created = {event.unit: event.at for event in events if event.kind == "created"}
    return (event.at - created[event.unit] for event in events if event.kind == "running" and event.at < first_end)


def _overruns(events: Sequence[Event], runs: dict[str, float]) -> Iterable[float]:
    started: dict[str, float] = {}
    for event in events:
        if event.kind == "running":
            started[event.unit] = event.at
        elif event.kind == "finished":
            yield event.at - started[event.unit] - runs[event.unit]


def _idle(events: Sequence[Event]) -> Iterable[float]:
    """From the n-th end to the n-th admission after the first end: all jobs are alike, and somebody always waits."""
    ends = _times(events, "finished")
    admitted = [at for at in _times(events, "admitted") if ends and at > ends[0]]
    return (after - end for end, after in zip(ends, admitted, strict=False))


def _successions(events: Sequence[Event]) -> Iterable[float]:
    """From a preemption to the next admission."""
    for at in _times(events, "evicted"):
        if (after := next((other for other in _times(events, "admitted") if other > at), None)) is not None:
            yield after - at
