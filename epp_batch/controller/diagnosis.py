"""Explains to a user why a run does not progress, from the statuses of its units. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from epp_batch.controller.unit_status import UnitStatus
from epp_batch.progress_view.words import format_job_count

SCHEDULING_GRACE_SECONDS = 10.0
"""A wait for the scheduler or for Kueue is mentioned after this time."""
WORKLOAD_CREATION_GRACE_SECONDS = 60.0
"""Kueue creates a few dozen Workloads per second; the last Job of a large run waits this long for its own."""
MAX_CAUSES = 4
_STARTING_REASONS = ("", "ContainerCreating", "PodInitializing")


def diagnose_stalls(statuses: Mapping[str, tuple[UnitStatus, float]]) -> list[str]:
    """One line per cause with its number of units, most units first.

    `statuses` has the status of each unit, and for how many seconds it has lasted.
    """
    progressing = any(status.phase in ("running", "admitted", "reserved") for status, _ in statuses.values())
    causes = Counter(filter(None, (_stall_cause(status, age, progressing) for status, age in statuses.values())))
    lines = [f"{cause} ({format_job_count(count)})" for cause, count in causes.most_common(MAX_CAUSES)]
    return lines + ([f"and {len(causes) - MAX_CAUSES} more causes"] if len(causes) > MAX_CAUSES else [])


def _stall_cause(status: UnitStatus, age: float, progressing: bool) -> str:
    match status.phase:
        case "queued" if status.never_admissible:
            return f"can never be admitted: {status.message}; change the queue, the request or the quota"
        # While other units run, waiting for their quota is the normal course.
        case "queued" if status.message and not progressing and age > SCHEDULING_GRACE_SECONDS:
            return f"waits in its queue: {status.message}"
        case "unknown-to-kueue" if age > WORKLOAD_CREATION_GRACE_SECONDS:
            return "Kueue has created no Workload for it: is its controller running, with batch/job in its frameworks?"
        case "admitted" if status.reason == "Unschedulable" and age > SCHEDULING_GRACE_SECONDS:
            return f"is admitted, but no node fits the pod: {status.message}"
        case "admitted" if (
            status.reason not in (*_STARTING_REASONS, "Unschedulable") and age > SCHEDULING_GRACE_SECONDS
        ):
            return f"cannot start: {status.reason}: {status.message}"
        case "reserved" if status.message and age > SCHEDULING_GRACE_SECONDS:
            return f"has quota, but is not admitted yet: {status.message}"
        case "paused":
            return "is paused; `epp-batch resume` continues it"
    return ""
