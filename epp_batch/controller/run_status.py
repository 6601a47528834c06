"""One look at a run, without staying: what `status`, `cancel`, `pause` and `logs` go by."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from epp_batch.controller import diagnosis
from epp_batch.controller.queue_positions import positions
from epp_batch.controller.task_results import Books
from epp_batch.controller.unit_status import Facts, Phase, attempt, state
from epp_batch.kube.client import Client
from epp_batch.kube.objects import Job, Pod, Workload
from epp_batch.kube.resources import JOB_NAME_LABEL, JOBS, PODS, Kueue
from epp_batch.manifests.jobs import RUN_LABEL
from epp_batch.output_folder import Folder
from epp_batch.progress_view import Standing, Tracker
from epp_batch.spec import Run, Unit
from epp_batch.timeline import Event, read


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One unit now."""

    unit: str
    stems: tuple[str, ...] = ()
    """Its recordings that have no end yet."""
    phase: Phase
    reason: str = ""
    message: str = ""
    place: str = ""
    attempt: int = 0
    """Admissions so far."""
    position: int | None = None
    """In its LocalQueue, from 1; None where nobody tells."""


async def facts(client: Client, kueue: Kueue, namespace: str, run: str) -> dict[str, Facts]:
    """By Job name, what the cluster has of a run."""
    selector = f"{RUN_LABEL}={run}"
    lists = await asyncio.gather(
        client.list_raw(JOBS.path(namespace), selector=selector),
        client.list_raw(kueue.workloads.path(namespace)),
        client.list_raw(PODS.path(namespace), selector=selector),
    )
    jobs = [msgspec.json.decode(item, type=Job) for item in lists[0].items]
    workloads = {workload.job: workload for workload in (_workload(item) for item in lists[1].items) if workload.job}
    pods = [msgspec.json.decode(item, type=Pod) for item in lists[2].items]
    return {job.metadata.name: _joined(job, workloads.get(job.metadata.name), pods) for job in jobs}


def _workload(item: bytes) -> Workload:
    return msgspec.json.decode(item, type=Workload)


def _joined(job: Job, workload: Workload | None, pods: Iterable[Pod]) -> Facts:
    mine = tuple(pod for pod in pods if pod.metadata.labels.get(JOB_NAME_LABEL) == job.metadata.name)
    return Facts(job, workload, mine)


async def places(client: Client, kueue: Kueue, namespace: str, found: Iterable[Facts]) -> dict[str, int]:
    """By Workload name, the position of each that waits, as far as anybody tells."""
    waiting = [one.workload for one in found if one.workload is not None and state(one).phase == "queued"]
    queues = sorted({workload.spec.queue_name for workload in waiting})
    told = [await positions(client, kueue, namespace, queue) or {} for queue in queues]
    return {name: place for each in told for name, place in each.items()}


def rows(
    run: Run | None,
    found: dict[str, Facts],
    books: Books | None = None,
    places: Mapping[str, int] = MappingProxyType({}),
) -> list[Row]:
    """One row a unit, in order of submission; without the run's file, one a Job."""
    if run is None or books is None:
        return [_row(name, (), facts, places) for name, facts in sorted(found.items())]
    return [
        _row(unit.name, tuple(task.stem for task in books.open(unit)), found.get(unit.name, Facts()), places)
        for unit in run.units
    ]


def _row(unit: str, stems: tuple[str, ...], facts: Facts, places: Mapping[str, int]) -> Row:
    at = state(facts)
    pod = facts.pod if at.phase == "running" else None
    return Row(
        unit=unit,
        stems=stems,
        phase=at.phase,
        reason=at.reason,
        message=at.message,
        place=pod.spec.node_name if pod is not None else "",
        attempt=attempt(facts.workload) if at.phase in ("admitted", "running") else 0,
        position=places.get(facts.workload.metadata.name) if facts.workload is not None else None,
    )


def standing(run: Run, folder: Folder, found: dict[str, Facts] | None, now: float) -> tuple[Standing, Books]:
    """Where a run stands by its folder and journal and, unless `found` is None, by the cluster; wall second `now`."""
    books = Books(run, folder)
    tracker = Tracker(run)
    tracker.replay(read(folder.events_file))
    for unit in run.units:
        for task, result in books.finished(unit):
            tracker.done(task.stem, result)
        over = found is not None and state(found.get(unit.name, Facts())).phase == "failed"
        for task, _ in books.failed_before(unit, final=over):
            tracker.failed(task.stem)
        if found is not None and (event := _as_event(unit, found.get(unit.name, Facts()), now)) is not None:
            tracker.apply(event)
    states = {name: (state(facts), float("inf")) for name, facts in (found or {}).items()}
    return tracker.look(now, troubles=diagnosis.troubles(states)), books


def _as_event(unit: Unit, facts: Facts, now: float) -> Event | None:
    """The event after which a unit is in the phase that the cluster shows."""
    at = state(facts)
    match at.phase:
        case "queued" | "unknown-to-kueue":
            return Event(at=now, unit=unit.name, kind="queued")
        case "reserved" | "admitted":
            return Event(at=now, unit=unit.name, kind="admitted")
        case "running":
            pod = facts.pod
            began = pod.ran if pod is not None else None
            place = pod.spec.node_name if pod is not None else ""
            return Event(at=began.timestamp() if began else now, unit=unit.name, kind="running", place=place)
        case "paused":
            return Event(at=now, unit=unit.name, kind="paused")
        case "failed" | "deactivated":
            return Event(at=now, unit=unit.name, kind="failed")
    return None
