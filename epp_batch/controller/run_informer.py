"""Current API objects of one run by unit: three reflectors over its Jobs and pods (by label) and its Workloads.

A Workload carries no label of ours: those of the whole namespace are watched, and the run's are selected by owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

from epp.tasks import Tasks
from epp_batch.controller.unit_status import UnitObjects
from epp_batch.errors import ClusterError
from epp_batch.kube.client import ApiClient, KubeObject
from epp_batch.kube.informer import ObjectChange, Reflector, Store
from epp_batch.kube.objects import Job, Pod, Workload
from epp_batch.kube.resources import JOB_NAME_LABEL, JOBS, PODS, KueueResources
from epp_batch.manifests.jobs import RUN_LABEL

AnyReflector = Reflector[Job] | Reflector[Workload] | Reflector[Pod]


class RunInformer:
    """Caches the API objects of one run and marks units whose objects changed. All calls on the event loop.

    `dirty_units` is the work queue: the informer adds names, the controller takes them out. `wake_event` is set
    whenever a name is added.
    """

    def __init__(self, units: Iterable[str]) -> None:
        self.units = frozenset(units)
        self.dirty_units: set[str] = set()
        self.wake_event = asyncio.Event()
        self.deleted_externally: set[str] = set()
        """Units whose Job was deleted before it ended, and not by us."""
        self.api_errors: dict[str, str] = {}
        """Requests that fail at present, by what they are for: shown to the user until they succeed."""
        self._job_store = Store(Job, lambda job: job.metadata.name in self.units)
        self._workload_store = Store(Workload, lambda workload: workload.job_name in self.units)
        self._pod_store = Store(Pod, lambda pod: _unit_name(pod) in self.units)
        self._workload_by_unit: dict[str, Workload] = {}
        self._pods_by_unit: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        self._deleted_uids: set[str] = set()
        self._fatal_error: ClusterError | None = None
        self._reflectors: list[AnyReflector] = []

    def start(
        self, client: ApiClient, kueue: KueueResources, namespace: str, run: str, tasks: Tasks, rng: random.Random
    ) -> list[asyncio.Task[None]]:
        """Starts the three reflectors; the caller cancels their tasks."""
        by_run = f"{RUN_LABEL}={run}"
        self._reflectors = [
            Reflector(
                client,
                JOBS.path(namespace),
                self._job_store,
                selector=by_run,
                on_change=self._on_job_change,
                on_error=self._error_recorder("jobs"),
                rng=rng,
            ),
            Reflector(
                client,
                kueue.workloads.path(namespace),
                self._workload_store,
                on_change=self._on_workload_change,
                on_error=self._error_recorder("workloads"),
                rng=rng,
            ),
            Reflector(
                client,
                PODS.path(namespace),
                self._pod_store,
                selector=by_run,
                on_change=self._on_pod_change,
                on_error=self._error_recorder("pods"),
                rng=rng,
            ),
        ]
        return [
            tasks.spawn(f"reflector-{index}", self._run_reflector(reflector))
            for index, reflector in enumerate(self._reflectors)
        ]

    async def wait_for_sync(self, seconds: float) -> bool:
        """Waits until every collection was listed once, for at most `seconds` each; returns whether all were.

        Only then does a missing Job mean that there is none. Raises what `raise_if_failed` raises.
        """
        for reflector in self._reflectors:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await reflector.synced.wait()
        self.raise_if_failed()
        return all(reflector.synced.is_set() for reflector in self._reflectors)

    async def wait_for_change(self, seconds: float) -> None:
        """Waits until a unit is marked dirty, for at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake_event.wait()
        self.wake_event.clear()

    def raise_if_failed(self) -> None:
        """Raises the error that ended a reflector: one that a retry does not resolve, such as missing rights."""
        if self._fatal_error is not None:
            raise self._fatal_error

    def unit_objects(self, unit: str) -> UnitObjects:
        """Objects of the unit's current Job. Workload and pods of an earlier Job of that name are left out."""
        job, workload = self._job_store.objects.get(unit), self._workload_by_unit.get(unit)
        if job is None:
            return UnitObjects()
        pods = (pod for pod in self._pods_by_unit.get(unit, {}).values() if _is_owned_by(pod, job))
        return UnitObjects(job, workload if workload is not None and _is_owned_by(workload, job) else None, tuple(pods))

    def record_created(self, response: KubeObject) -> None:
        """Adds a Job that we created, before the watch delivers it: it must not be created twice."""
        self._job_store.insert(msgspec.json.encode(response), self._on_job_change)

    def record_deleting(self, uid: str) -> None:
        """Notes that we delete this Job, so that its disappearance is not taken for a cancellation by a user."""
        self._deleted_uids.add(uid)

    def mark_dirty(self, unit: str) -> None:
        """Queues a unit for reconciliation."""
        self.dirty_units.add(unit)
        self.wake_event.set()

    async def _run_reflector(self, reflector: AnyReflector) -> None:
        try:
            await reflector.run()
        except ClusterError as error:
            self._fatal_error = error
            self.wake_event.set()

    def _error_recorder(self, collection: str) -> Callable[[str], None]:
        def record(message: str) -> None:
            if message:
                self.api_errors[collection] = message
            else:
                self.api_errors.pop(collection, None)

        return record

    def _on_job_change(self, change: ObjectChange[Job]) -> None:
        old, new = change
        if new is not None:
            self.deleted_externally.discard(new.metadata.name)
            self.mark_dirty(new.metadata.name)
        elif old is not None:
            if not old.is_finished and old.metadata.uid not in self._deleted_uids:
                self.deleted_externally.add(old.metadata.name)
            self.mark_dirty(old.metadata.name)

    def _on_workload_change(self, change: ObjectChange[Workload]) -> None:
        old, new = change
        if old is not None and self._workload_by_unit.get(old.job_name) is old:
            del self._workload_by_unit[old.job_name]
        if new is not None:
            self._workload_by_unit[new.job_name] = new
        for workload in filter(None, change):
            self.mark_dirty(workload.job_name)

    def _on_pod_change(self, change: ObjectChange[Pod]) -> None:
        old, new = change
        if old is not None:
            self._pods_by_unit[_unit_name(old)].pop(old.metadata.name, None)
        if new is not None:
            self._pods_by_unit[_unit_name(new)][new.metadata.name] = new
        for pod in filter(None, change):
            self.mark_dirty(_unit_name(pod))


def _unit_name(pod: Pod) -> str:
    return pod.metadata.labels.get(JOB_NAME_LABEL, "")


def _is_owned_by(child: Pod | Workload, job: Job) -> bool:
    return any(owner.uid == job.metadata.uid for owner in child.metadata.owner_references)
