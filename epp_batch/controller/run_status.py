"""One-shot listing and status of a run, for `status`, `cancel`, `pause`, `logs` and `submit --no-follow`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from epp_batch.controller import diagnosis
from epp_batch.controller.milestones import admission_attempt
from epp_batch.controller.task_results import TaskTracker
from epp_batch.controller.unit_status import UnitObjects, UnitPhase, UnitStatus, derive_unit_status, worker_state
from epp_batch.kube.client import ApiClient
from epp_batch.kube.objects import Job, Pod, Workload
from epp_batch.kube.resources import JOBS, PODS, KueueResources
from epp_batch.manifests.jobs import RUN_LABEL
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view import RunStatus, RunTracker
from epp_batch.spec import Run, Unit
from epp_batch.timeline import TimelineEvent, read_events


class UnitRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Status of one unit; an element of `units` in the JSON of `status --json`."""

    unit: str
    stems: tuple[str, ...] = ()
    """Stems of its open tasks."""
    phase: UnitPhase
    reason: str = ""
    message: str = ""
    place: str = ""
    """Node on which it is running."""
    attempt: int = 0
    """Number of the current admission, counted from 1; 0 if it is not admitted."""
    position: int | None = None
    """Position in its LocalQueue, counted from 1; None if it is unknown."""


async def list_jobs(client: ApiClient, namespace: str, run: str) -> list[Job]:
    """The run's Jobs, finished ones included."""
    listing = await client.list_raw(JOBS.path(namespace), selector=f"{RUN_LABEL}={run}")
    return [msgspec.json.decode(item, type=Job) for item in listing.items]


async def list_run_objects(
    client: ApiClient, kueue: KueueResources, namespace: str, run: str
) -> dict[str, UnitObjects]:
    """The run's Jobs, each with the Workload and the pods that it owns, by Job name.

    Owners are compared by uid: an earlier Job of the same name may have left objects that are still being deleted.
    """
    jobs, workload_list, pod_list = await asyncio.gather(
        list_jobs(client, namespace, run),
        client.list_raw(kueue.workloads.path(namespace)),
        client.list_raw(PODS.path(namespace), selector=f"{RUN_LABEL}={run}"),
    )
    workloads: dict[str, Workload] = {}
    for workload in (msgspec.json.decode(item, type=Workload) for item in workload_list.items):
        workloads.update((owner.uid, workload) for owner in workload.metadata.owner_references)
    pods: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in (msgspec.json.decode(item, type=Pod) for item in pod_list.items):
        for owner in pod.metadata.owner_references:
            pods[owner.uid].append(pod)
    return {
        job.metadata.name: UnitObjects(job, workloads.get(job.metadata.uid), tuple(pods[job.metadata.uid]))
        for job in jobs
    }


def build_unit_rows(
    run: Run | None,
    objects: dict[str, UnitObjects],
    tracker: TaskTracker | None = None,
    positions: Mapping[str, int] = MappingProxyType({}),
) -> list[UnitRow]:
    """One row per unit in order of submission; without the run's file, one per Job in order of names.

    `positions` are queue positions by Workload name.
    """
    if run is None or tracker is None:
        return [_build_unit_row(name, (), unit_objects, positions) for name, unit_objects in sorted(objects.items())]
    return [
        _build_unit_row(
            unit.name,
            tuple(task.stem for task in tracker.open_tasks(unit)),
            objects.get(unit.name, UnitObjects()),
            positions,
        )
        for unit in run.units
    ]


def _build_unit_row(unit: str, stems: tuple[str, ...], objects: UnitObjects, positions: Mapping[str, int]) -> UnitRow:
    status = derive_unit_status(objects)
    pod = objects.newest_pod if status.phase == "running" else None
    return UnitRow(
        unit=unit,
        stems=stems,
        phase=status.phase,
        reason=status.reason,
        message=status.message,
        place=pod.spec.node_name if pod is not None else "",
        attempt=admission_attempt(objects.workload) if status.phase in ("admitted", "running") else 0,
        position=positions.get(objects.workload.metadata.name) if objects.workload is not None else None,
    )


def read_run_status(
    run: Run, folder: OutputFolder, objects: dict[str, UnitObjects] | None, now: float
) -> tuple[RunStatus, TaskTracker]:
    """A run's status from its folder and journal and, unless `objects` is None, from the cluster; wall second `now`."""
    task_tracker = TaskTracker(run, folder)
    run_tracker = RunTracker(run)
    run_tracker.replay(read_events(folder.events_file))
    statuses = {name: derive_unit_status(unit_objects) for name, unit_objects in (objects or {}).items()}
    for unit in run.units:
        status = statuses.get(unit.name, UnitStatus("absent"))
        for task, result in task_tracker.collect_finished(unit):
            run_tracker.record_result(task.stem, result)
        for task, _ in task_tracker.collect_failed(unit, final=status.phase == "failed"):
            run_tracker.record_failure(task.stem)
        if objects is not None and (event := _phase_event(unit, status, objects, now)) is not None:
            run_tracker.apply_event(event)
    # Without a history of statuses, each counts as having lasted long enough to be mentioned.
    troubles = diagnosis.diagnose_stalls({name: (status, float("inf")) for name, status in statuses.items()})
    return run_tracker.status(now, troubles=troubles), task_tracker


def _phase_event(unit: Unit, status: UnitStatus, objects: dict[str, UnitObjects], now: float) -> TimelineEvent | None:
    """The event that puts a unit into the phase that the cluster shows; None if the journal knows it better."""
    match status.phase:
        case "queued" | "unknown-to-kueue":
            return TimelineEvent(at=now, unit=unit.name, kind="queued")
        case "reserved" | "admitted":
            return TimelineEvent(at=now, unit=unit.name, kind="admitted")
        case "running":
            pod = objects[unit.name].newest_pod
            started_at = worker_state(pod).started_at if pod is not None else None
            at = started_at.timestamp() if started_at else now
            place = pod.spec.node_name if pod is not None else ""
            return TimelineEvent(at=at, unit=unit.name, kind="running", place=place)
        case "paused":
            return TimelineEvent(at=now, unit=unit.name, kind="paused")
        case "failed" | "deactivated":
            return TimelineEvent(at=now, unit=unit.name, kind="failed")
    return None
