"""One look at a run, without staying: what `status`, `cancel`, `pause` and `logs` go by."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from epp_batch.controller import diagnosis
from epp_batch.controller.queue_positions import request_queue_positions
from epp_batch.controller.task_results import TaskTracker
from epp_batch.controller.unit_status import UnitObjects, UnitPhase, admission_attempt, derive_unit_status
from epp_batch.kube.client import ApiClient
from epp_batch.kube.objects import Job, Pod, Workload
from epp_batch.kube.resources import JOB_NAME_LABEL, JOBS, PODS, KueueResources
from epp_batch.manifests.jobs import RUN_LABEL
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view import RunStatus, RunTracker
from epp_batch.spec import Run, Unit
from epp_batch.timeline import TimelineEvent, read_events


class UnitRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One unit now."""

    unit: str
    stems: tuple[str, ...] = ()
    """Its recordings that have no end yet."""
    phase: UnitPhase
    reason: str = ""
    message: str = ""
    place: str = ""
    attempt: int = 0
    """Admissions so far."""
    position: int | None = None
    """In its LocalQueue, from 1; None where nobody tells."""


async def list_run_objects(
    client: ApiClient, kueue: KueueResources, namespace: str, run: str
) -> dict[str, UnitObjects]:
    """By Job name, what the cluster has of a run."""
    selector = f"{RUN_LABEL}={run}"
    lists = await asyncio.gather(
        client.list_raw(JOBS.path(namespace), selector=selector),
        client.list_raw(kueue.workloads.path(namespace)),
        client.list_raw(PODS.path(namespace), selector=selector),
    )
    jobs = [msgspec.json.decode(item, type=Job) for item in lists[0].items]
    workloads = {
        workload.job_name: workload
        for workload in (_decode_workload(item) for item in lists[1].items)
        if workload.job_name
    }
    pods = [msgspec.json.decode(item, type=Pod) for item in lists[2].items]
    return {job.metadata.name: _join_objects(job, workloads.get(job.metadata.name), pods) for job in jobs}


def _decode_workload(item: bytes) -> Workload:
    return msgspec.json.decode(item, type=Workload)


def _join_objects(job: Job, workload: Workload | None, pods: Iterable[Pod]) -> UnitObjects:
    mine = tuple(pod for pod in pods if pod.metadata.labels.get(JOB_NAME_LABEL) == job.metadata.name)
    return UnitObjects(job, workload, mine)


async def list_queue_positions(
    client: ApiClient, kueue: KueueResources, namespace: str, found: Iterable[UnitObjects]
) -> dict[str, int]:
    """By Workload name, the position of each that waits, as far as anybody tells."""
    waiting = [one.workload for one in found if one.workload is not None and derive_unit_status(one).phase == "queued"]
    queues = sorted({workload.spec.queue_name for workload in waiting})
    told = [await request_queue_positions(client, kueue, namespace, queue) or {} for queue in queues]
    return {name: place for each in told for name, place in each.items()}


def build_unit_rows(
    run: Run | None,
    found: dict[str, UnitObjects],
    books: TaskTracker | None = None,
    places: Mapping[str, int] = MappingProxyType({}),
) -> list[UnitRow]:
    """One row a unit, in order of submission; without the run's file, one a Job."""
    if run is None or books is None:
        return [_build_unit_row(name, (), facts, places) for name, facts in sorted(found.items())]
    return [
        _build_unit_row(
            unit.name, tuple(task.stem for task in books.open_tasks(unit)), found.get(unit.name, UnitObjects()), places
        )
        for unit in run.units
    ]


def _build_unit_row(unit: str, stems: tuple[str, ...], facts: UnitObjects, places: Mapping[str, int]) -> UnitRow:
    at = derive_unit_status(facts)
    pod = facts.newest_pod if at.phase == "running" else None
    return UnitRow(
        unit=unit,
        stems=stems,
        phase=at.phase,
        reason=at.reason,
        message=at.message,
        place=pod.spec.node_name if pod is not None else "",
        attempt=admission_attempt(facts.workload) if at.phase in ("admitted", "running") else 0,
        position=places.get(facts.workload.metadata.name) if facts.workload is not None else None,
    )


def read_run_status(
    run: Run, folder: OutputFolder, found: dict[str, UnitObjects] | None, now: float
) -> tuple[RunStatus, TaskTracker]:
    """Where a run stands by its folder and journal and, unless `found` is None, by the cluster; wall second `now`."""
    books = TaskTracker(run, folder)
    tracker = RunTracker(run)
    tracker.replay(read_events(folder.events_file))
    for unit in run.units:
        for task, result in books.collect_finished(unit):
            tracker.record_result(task.stem, result)
        over = found is not None and derive_unit_status(found.get(unit.name, UnitObjects())).phase == "failed"
        for task, _ in books.collect_failed(unit, final=over):
            tracker.record_failure(task.stem)
        if found is not None and (event := _phase_event(unit, found.get(unit.name, UnitObjects()), now)) is not None:
            tracker.apply_event(event)
    states = {name: (derive_unit_status(facts), float("inf")) for name, facts in (found or {}).items()}
    return tracker.status(now, troubles=diagnosis.diagnose_stalls(states)), books


def _phase_event(unit: Unit, facts: UnitObjects, now: float) -> TimelineEvent | None:
    """The event after which a unit is in the phase that the cluster shows."""
    at = derive_unit_status(facts)
    match at.phase:
        case "queued" | "unknown-to-kueue":
            return TimelineEvent(at=now, unit=unit.name, kind="queued")
        case "reserved" | "admitted":
            return TimelineEvent(at=now, unit=unit.name, kind="admitted")
        case "running":
            pod = facts.newest_pod
            began = pod.started_at if pod is not None else None
            place = pod.spec.node_name if pod is not None else ""
            return TimelineEvent(at=began.timestamp() if began else now, unit=unit.name, kind="running", place=place)
        case "paused":
            return TimelineEvent(at=now, unit=unit.name, kind="paused")
        case "failed" | "deactivated":
            return TimelineEvent(at=now, unit=unit.name, kind="failed")
    return None
