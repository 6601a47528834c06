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
from epp_batch.controller.unit_status import Facts
from epp_batch.errors import ClusterError
from epp_batch.kube.client import Client, Object
from epp_batch.kube.informer import Change, Mirror, Reflector
from epp_batch.kube.objects import Job, Pod, Workload
from epp_batch.kube.resources import JOB_NAME_LABEL, JOBS, PODS, Kueue
from epp_batch.manifests.jobs import RUN_LABEL


class Observer:
    """What the cluster has of a run, kept up to date. `dirty` are the units that changed; `wake` is set with them."""

    def __init__(self, units: Iterable[str]) -> None:
        self.units = frozenset(units)
        self.dirty: set[str] = set()
        self.gone: set[str] = set()
        """Units whose Job was deleted before it ended, and not by us."""
        self.troubles: dict[str, str] = {}
        self.wake = asyncio.Event()
        self._jobs = Mirror(Job, lambda job: job.metadata.name in self.units)
        self._workloads = Mirror(Workload, lambda workload: workload.job in self.units)
        self._pods = Mirror(Pod, lambda pod: _unit_of(pod) in self.units)
        self._workload_of: dict[str, Workload] = {}
        self._pods_of: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        self._deleted: set[str] = set()
        self._error: ClusterError | None = None
        self._reflectors: list[Reflector[Job] | Reflector[Workload] | Reflector[Pod]] = []

    def follow(
        self, client: Client, kueue: Kueue, namespace: str, run: str, tasks: Tasks, dice: random.Random
    ) -> list[asyncio.Task[None]]:
        """Starts the three reflectors."""
        label = f"{RUN_LABEL}={run}"
        self._reflectors = [
            Reflector(
                client,
                JOBS.path(namespace),
                self._jobs,
                selector=label,
                on_change=self._job,
                on_trouble=lambda text: self._trouble("jobs", text),
                dice=dice,
            ),
            Reflector(
                client,
                kueue.workloads.path(namespace),
                self._workloads,
                on_change=self._workload,
                on_trouble=lambda text: self._trouble("workloads", text),
                dice=dice,
            ),
            Reflector(
                client,
                PODS.path(namespace),
                self._pods,
                selector=label,
                on_change=self._pod,
                on_trouble=lambda text: self._trouble("pods", text),
                dice=dice,
            ),
        ]
        return [tasks.spawn(f"mirror-{i}", self._kept(reflector)) for i, reflector in enumerate(self._reflectors)]

    async def synced(self, seconds: float) -> bool:
        """Waits until each collection was listed once, at most so long. Raises what ends a reflector for good."""
        for reflector in self._reflectors:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await reflector.synced.wait()
        self.check()
        return all(reflector.synced.is_set() for reflector in self._reflectors)

    async def changed(self, seconds: float) -> None:
        """Waits for a change, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        self.wake.clear()

    def check(self) -> None:
        """Raises what has ended a reflector: a refusal that time does not heal."""
        if self._error is not None:
            raise self._error

    async def _kept(self, reflector: Reflector[Job] | Reflector[Workload] | Reflector[Pod]) -> None:
        try:
            await reflector.run()
        except ClusterError as error:
            self._error = error
            self.wake.set()

    def facts(self, unit: str) -> Facts:
        """Of the Job of this name that is there now; what an earlier one left behind does not count."""
        job, workload = self._jobs.objects.get(unit), self._workload_of.get(unit)
        if job is None:
            return Facts()
        pods = (pod for pod in self._pods_of.get(unit, {}).values() if _owned(pod, job))
        return Facts(job, workload if workload is not None and _owned(workload, job) else None, tuple(pods))

    def created(self, answer: Object) -> None:
        """A Job that we made, before the watch tells of it."""
        self._jobs.insert(msgspec.json.encode(answer), self._job)

    def deleting(self, uid: str) -> None:
        """Its disappearance is ours."""
        self._deleted.add(uid)

    def mark(self, unit: str) -> None:
        """A unit is to be looked at again."""
        self.dirty.add(unit)
        self.wake.set()

    def _job(self, change: Change[Job]) -> None:
        before, after = change
        if after is not None:
            self.gone.discard(after.metadata.name)
            self.mark(after.metadata.name)
        elif before is not None:
            if not before.ended and before.metadata.uid not in self._deleted:
                self.gone.add(before.metadata.name)
            self.mark(before.metadata.name)

    def _workload(self, change: Change[Workload]) -> None:
        before, after = change
        if before is not None and self._workload_of.get(before.job) is before:
            del self._workload_of[before.job]
        if after is not None:
            self._workload_of[after.job] = after
        for workload in filter(None, change):
            self.mark(workload.job)

    def _pod(self, change: Change[Pod]) -> None:
        before, after = change
        if before is not None:
            self._pods_of[_unit_of(before)].pop(before.metadata.name, None)
        if after is not None:
            self._pods_of[_unit_of(after)][after.metadata.name] = after
        for pod in filter(None, change):
            self.mark(_unit_of(pod))

    def _trouble(self, who: str, text: str) -> None:
        if text:
            self.troubles[who] = text
        else:
            self.troubles.pop(who, None)


def _unit_of(pod: Pod) -> str:
    return pod.metadata.labels.get(JOB_NAME_LABEL, "")


def _owned(thing: Pod | Workload, job: Job) -> bool:
    return any(owner.uid == job.metadata.uid for owner in thing.metadata.owner_references)
