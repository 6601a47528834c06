"""Measures the control plane's delays in a real run, and repeats the simulation with them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from bench.paper.arms import ArmResult
from epp_batch.planner import ControlPlaneDelays, compute_timeline_stats, simulate_jobs
from epp_batch.timeline import EventKind, TimelineEvent


def simulate_with_delays(result: ArmResult, events: Sequence[TimelineEvent]) -> ArmResult:
    """The same order of jobs with the mean delays of a real run.

    Measured are the time between two Jobs, from admission to the start of a pod, how much longer than its duration a
    pod runs, how long released quota stays unused, and from a preemption to the next admission.
    """
    overrun = _mean_delay(_overruns(events, {job.unit: job.duration_seconds for job in result.order}))
    delays = ControlPlaneDelays(
        submit_interval=_mean_delay(second - first for first, second in pairwise(_event_times(events, "created"))),
        requeue_batch_period=_mean_delay(_idle_quota_times(events)),
        pod_startup=_mean_delay(_startup_delays(events) if result.uses_kueue else _unqueued_startup_delays(events)),
        pod_termination=_mean_delay(_preemption_delays(events)),
    )
    order = [msgspec.structs.replace(job, startup_seconds=job.startup_seconds + overrun) for job in result.order]
    cluster_model = msgspec.structs.replace(
        result.cluster_model, kueue=result.cluster_model.kueue if result.uses_kueue else None, delays=delays
    )
    simulated = simulate_jobs(cluster_model, order)
    stats = compute_timeline_stats(simulated)
    return result._replace(cluster_model=cluster_model, order=order, events=simulated, stats=stats)


def _mean_delay(values: Iterable[float]) -> float:
    """The mean, not below 0; 0 without values."""
    delays = list(values)
    return max(0.0, statistics.fmean(delays)) if delays else 0.0


def _event_times(events: Sequence[TimelineEvent], kind: EventKind) -> list[float]:
    return [event.at for event in events if event.kind == kind]


def _startup_delays(events: Sequence[TimelineEvent]) -> Iterable[float]:
    """From admission to the running pod, of admissions that were not preempted in between."""
    admitted: dict[str, float] = {}
    for event in events:
        if event.kind == "admitted":
            admitted[event.unit] = event.at
        elif event.kind == "evicted":
            admitted.pop(event.unit, None)
        elif event.kind == "running" and event.unit in admitted:
            yield event.at - admitted[event.unit]


def _unqueued_startup_delays(events: Sequence[TimelineEvent]) -> Iterable[float]:
    """From creation to the start, of jobs that started before the first one finished and so did not queue."""
    first_end = min(_event_times(events, "finished"), default=0.0)
    created = {event.unit: event.at for event in events if event.kind == "created"}
    return (event.at - created[event.unit] for event in events if event.kind == "running" and event.at < first_end)


def _overruns(events: Sequence[TimelineEvent], durations: dict[str, float]) -> Iterable[float]:
    """How much longer than its duration a pod ran."""
    started: dict[str, float] = {}
    for event in events:
        if event.kind == "running":
            started[event.unit] = event.at
        elif event.kind == "finished":
            yield event.at - started[event.unit] - durations[event.unit]


def _idle_quota_times(events: Sequence[TimelineEvent]) -> Iterable[float]:
    """From the n-th end to the n-th admission after the first end: jobs request the same, and one is always pending."""
    ends = _event_times(events, "finished")
    admitted = [at for at in _event_times(events, "admitted") if ends and at > ends[0]]
    return (after - end for end, after in zip(ends, admitted, strict=False))


def _preemption_delays(events: Sequence[TimelineEvent]) -> Iterable[float]:
    """From a preemption to the next admission."""
    for at in _event_times(events, "evicted"):
        if (after := next((other for other in _event_times(events, "admitted") if other > at), None)) is not None:
            yield after - at
