"""What the control plane took in a real run, step by step, and the model run again with it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from bench.paper.arms import ArmResult
from epp_batch.planner import ControlPlaneDelays, compute_timeline_stats, simulate_jobs
from epp_batch.timeline import EventKind, TimelineEvent


def simulate_with_delays(found: ArmResult, events: Sequence[TimelineEvent]) -> ArmResult:
    """The same order, with the means of a real run: the time between two Jobs, how long a pod takes to start, how much
    longer than its time it runs, how long freed quota stays unused, how long a victim takes to go.
    """
    over = _mean_delay(_overruns(events, {demand.unit: demand.duration_seconds for demand in found.order}))
    delays = ControlPlaneDelays(
        submit_interval=_mean_delay(second - first for first, second in pairwise(_event_times(events, "created"))),
        requeue_batch_period=_mean_delay(_idle_quota_times(events)),
        pod_startup=_mean_delay(_startup_delays(events) if found.uses_kueue else _unqueued_startup_delays(events)),
        pod_termination=_mean_delay(_preemption_delays(events)),
    )
    order = [msgspec.structs.replace(demand, startup_seconds=demand.startup_seconds + over) for demand in found.order]
    world = msgspec.structs.replace(
        found.cluster_model, kueue=found.cluster_model.kueue if found.uses_kueue else None, delays=delays
    )
    simulated = simulate_jobs(world, order)
    return found._replace(cluster_model=world, order=order, events=simulated, stats=compute_timeline_stats(simulated))


def _mean_delay(values: Iterable[float]) -> float:
    """0 for none; nothing takes less."""
    found = list(values)
    return max(0.0, statistics.fmean(found)) if found else 0.0


def _event_times(events: Sequence[TimelineEvent], kind: EventKind) -> list[float]:
    return [event.at for event in events if event.kind == kind]


def _startup_delays(events: Sequence[TimelineEvent]) -> Iterable[float]:
    """From admission to the running pod, of those that were not preempted before."""
    admitted: dict[str, float] = {}
    for event in events:
        if event.kind == "admitted":
            admitted[event.unit] = event.at
        elif event.kind == "evicted":
            admitted.pop(event.unit, None)
        elif event.kind == "running" and event.unit in admitted:
            yield event.at - admitted[event.unit]


def _unqueued_startup_delays(events: Sequence[TimelineEvent]) -> Iterable[float]:
    """From creation to the start, for those that did not have to wait for anybody's end."""
    first_end = min(_event_times(events, "finished"), default=0.0)
    created = {event.unit: event.at for event in events if event.kind == "created"}
    return (event.at - created[event.unit] for event in events if event.kind == "running" and event.at < first_end)


def _overruns(events: Sequence[TimelineEvent], runs: dict[str, float]) -> Iterable[float]:
    started: dict[str, float] = {}
    for event in events:
        if event.kind == "running":
            started[event.unit] = event.at
        elif event.kind == "finished":
            yield event.at - started[event.unit] - runs[event.unit]


def _idle_quota_times(events: Sequence[TimelineEvent]) -> Iterable[float]:
    """From the n-th end to the n-th admission after the first end: all jobs are alike, and somebody always waits."""
    ends = _event_times(events, "finished")
    admitted = [at for at in _event_times(events, "admitted") if ends and at > ends[0]]
    return (after - end for end, after in zip(ends, admitted, strict=False))


def _preemption_delays(events: Sequence[TimelineEvent]) -> Iterable[float]:
    """From a preemption to the next admission."""
    for at in _event_times(events, "evicted"):
        if (after := next((other for other in _event_times(events, "admitted") if other > at), None)) is not None:
            yield after - at
