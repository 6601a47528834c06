"""Three mirrors of one run, joined by unit: its Jobs and pods by label, its Workloads by their owner.

A Workload carries no label of ours, so all of the namespace are read and those of other owners left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from epp.tasks import Tasks
from epp_batch.controller.unit_status import UnitObjects
from epp_batch.errors import ClusterError
from epp_batch.kube.client import ApiClient, KubeObject
from epp_batch.kube.informer import ObjectChange, Reflector, Store
from epp_batch.kube.objects import Job, Pod, Workload
from epp_batch.kube.resources import JOB_NAME_LABEL, JOBS, PODS, KueueResources
from epp_batch.manifests.jobs import RUN_LABEL


class RunInformer:
    """What the cluster has of a run, kept up to date. `dirty` are the units that changed; `wake` is set with them."""

    def __init__(self, units: Iterable[str]) -> None:
        self.units = frozenset(units)
        self.dirty_units: set[str] = set()
        self.deleted_externally: set[str] = set()
        """Units whose Job was deleted before it ended, and not by us."""
        self.api_errors: dict[str, str] = {}
        self.wake_event = asyncio.Event()
        self._job_store = Store(Job, lambda job: job.metadata.name in self.units)
        self._workload_store = Store(Workload, lambda workload: workload.job_name in self.units)
        self._pod_store = Store(Pod, lambda pod: _unit_name(pod) in self.units)
        self._workload_by_unit: dict[str, Workload] = {}
        self._pods_by_unit: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        self._deleted_uids: set[str] = set()
        self._fatal_error: ClusterError | None = None
        self._reflectors: list[Reflector[Job] | Reflector[Workload] | Reflector[Pod]] = []

    def start(
        self, client: ApiClient, kueue: KueueResources, namespace: str, run: str, tasks: Tasks, dice: random.Random
    ) -> list[asyncio.Task[None]]:
        """Starts the three reflectors."""
        label = f"{RUN_LABEL}={run}"
        self._reflectors = [
            Reflector(
                client,
                JOBS.path(namespace),
                self._job_store,
                selector=label,
                on_change=self._on_job_change,
                on_trouble=lambda text: self._record_api_error("jobs", text),
                dice=dice,
            ),
            Reflector(
                client,
                kueue.workloads.path(namespace),
                self._workload_store,
                on_change=self._on_workload_change,
                on_trouble=lambda text: self._record_api_error("workloads", text),
                dice=dice,
            ),
            Reflector(
                client,
                PODS.path(namespace),
                self._pod_store,
                selector=label,
                on_change=self._on_pod_change,
                on_trouble=lambda text: self._record_api_error("pods", text),
                dice=dice,
            ),
        ]
        return [
            tasks.spawn(f"mirror-{i}", self._run_reflector(reflector)) for i, reflector in enumerate(self._reflectors)
        ]

    async def wait_for_sync(self, seconds: float) -> bool:
        """Waits until each collection was listed once, at most so long. Raises what ends a reflector for good."""
        for reflector in self._reflectors:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await reflector.synced.wait()
        self.raise_if_failed()
        return all(reflector.synced.is_set() for reflector in self._reflectors)

    async def wait_for_change(self, seconds: float) -> None:
        """Waits for a change, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake_event.wait()
        self.wake_event.clear()

    def raise_if_failed(self) -> None:
        """Raises what has ended a reflector: a refusal that time does not heal."""
        if self._fatal_error is not None:
            raise self._fatal_error

    async def _run_reflector(self, reflector: Reflector[Job] | Reflector[Workload] | Reflector[Pod]) -> None:
        try:
            await reflector.run()
        except ClusterError as error:
            self._fatal_error = error
            self.wake_event.set()

    def unit_objects(self, unit: str) -> UnitObjects:
        """Of the Job of this name that is there now; what an earlier one left behind does not count."""
        job, workload = self._job_store.objects.get(unit), self._workload_by_unit.get(unit)
        if job is None:
            return UnitObjects()
        pods = (pod for pod in self._pods_by_unit.get(unit, {}).values() if _is_owned_by(pod, job))
        return UnitObjects(job, workload if workload is not None and _is_owned_by(workload, job) else None, tuple(pods))

    def record_created(self, answer: KubeObject) -> None:
        """A Job that we made, before the watch tells of it."""
        self._job_store.insert(msgspec.json.encode(answer), self._on_job_change)

    def record_deleting(self, uid: str) -> None:
        """Its disappearance is ours."""
        self._deleted_uids.add(uid)

    def mark_dirty(self, unit: str) -> None:
        """A unit is to be looked at again."""
        self.dirty_units.add(unit)
        self.wake_event.set()

    def _on_job_change(self, change: ObjectChange[Job]) -> None:
        before, after = change
        if after is not None:
            self.deleted_externally.discard(after.metadata.name)
            self.mark_dirty(after.metadata.name)
        elif before is not None:
            if not before.is_finished and before.metadata.uid not in self._deleted_uids:
                self.deleted_externally.add(before.metadata.name)
            self.mark_dirty(before.metadata.name)

    def _on_workload_change(self, change: ObjectChange[Workload]) -> None:
        before, after = change
        if before is not None and self._workload_by_unit.get(before.job_name) is before:
            del self._workload_by_unit[before.job_name]
        if after is not None:
            self._workload_by_unit[after.job_name] = after
        for workload in filter(None, change):
            self.mark_dirty(workload.job_name)

    def _on_pod_change(self, change: ObjectChange[Pod]) -> None:
        before, after = change
        if before is not None:
            self._pods_by_unit[_unit_name(before)].pop(before.metadata.name, None)
        if after is not None:
            self._pods_by_unit[_unit_name(after)][after.metadata.name] = after
        for pod in filter(None, change):
            self.mark_dirty(_unit_name(pod))

    def _record_api_error(self, who: str, text: str) -> None:
        if text:
            self.api_errors[who] = text
        else:
            self.api_errors.pop(who, None)


def _unit_name(pod: Pod) -> str:
    return pod.metadata.labels.get(JOB_NAME_LABEL, "")


def _is_owned_by(thing: Pod | Workload, job: Job) -> bool:
    return any(owner.uid == job.metadata.uid for owner in thing.metadata.owner_references)
