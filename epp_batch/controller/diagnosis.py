"""Why nothing moves, in words, from the states of a run's units. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from epp_batch.controller.unit_status import UnitStatus
from epp_batch.progress_view import words

SCHEDULING_GRACE_SECONDS = 10.0
"""A scheduler or Kueue may take so long before it is worth a word."""
WORKLOAD_CREATION_GRACE_SECONDS = 60.0
"""Kueue makes a few dozen Workloads a second; a new Job of a large run waits its turn."""
MAX_CAUSES = 4
_STARTING_REASONS = ("", "ContainerCreating", "PodInitializing")


def diagnose_stalls(states: Mapping[str, tuple[UnitStatus, float]]) -> list[str]:
    """One line for each cause, most units first; `states` has each unit's state and for how many seconds it holds."""
    moving = any(state.phase in ("running", "admitted", "reserved") for state, _ in states.values())
    causes = Counter(filter(None, (_stall_cause(state, waited, moving) for state, waited in states.values())))
    lines = [f"{cause} ({words.format_job_count(count)})" for cause, count in causes.most_common(MAX_CAUSES)]
    return lines + ([f"and {len(causes) - MAX_CAUSES} more causes"] if len(causes) > MAX_CAUSES else [])


def has_queued_unit(states: Iterable[UnitStatus]) -> bool:
    """Whether a unit waits in a queue, so that its position there means something."""
    return any(state.phase == "queued" for state in states)


def _stall_cause(state: UnitStatus, waited: float, moving: bool) -> str:
    match state.phase:
        case "queued" if state.never_admissible:
            return f"can never be admitted: {state.message}; change the queue, the request or the quota"
        case "queued" if state.message and not moving and waited > SCHEDULING_GRACE_SECONDS:
            return f"waits in its queue: {state.message}"
        case "unknown-to-kueue" if waited > WORKLOAD_CREATION_GRACE_SECONDS:
            return "Kueue has no Workload for it: does its controller run, with batch/job among its frameworks?"
        case "admitted" if state.reason == "Unschedulable" and waited > SCHEDULING_GRACE_SECONDS:
            return f"is admitted, but no node takes the pod: {state.message}"
        case "admitted" if (
            state.reason not in (*_STARTING_REASONS, "Unschedulable") and waited > SCHEDULING_GRACE_SECONDS
        ):
            return f"cannot start: {state.reason}: {state.message}"
        case "reserved" if state.message and waited > SCHEDULING_GRACE_SECONDS:
            return f"has quota, but is not admitted yet: {state.message}"
        case "paused":
            return "is paused; `epp-batch resume` lets them go on"
    return ""
