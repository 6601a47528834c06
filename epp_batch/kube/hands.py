"""Carries out what reconcile decided: a few calls at once, each safe to repeat."""

from __future__ import annotations

import asyncio
from typing import Literal

from epp.tasks import Tasks
from epp_batch.cluster import jobs
from epp_batch.errors import ClusterError, Unreachable
from epp_batch.kube.client import Client
from epp_batch.kube.errors import Busy, Conflict, Forbidden, Invalid, NotFound
from epp_batch.kube.observe import Observer
from epp_batch.kube.paths import CLAIM_TEMPLATES, HASH_ANNOTATION, JOBS, PAUSED_ANNOTATION, RUN_LABEL, Kueue
from epp_batch.kube.reconcile import Create, Delete, GiveUp, Hold
from epp_batch.work import Run, Unit

AT_ONCE = 16
PAUSE_SECONDS = 1.0
Deed = Create | Delete | GiveUp | Hold


class Hands:
    """At most `AT_ONCE` calls are under way; one deed a unit. What failed for now is decided anew."""

    def __init__(self, client: Client, kueue: Kueue, run: Run, observer: Observer) -> None:
        assert run.cluster is not None
        self.busy: set[str] = set()
        self.refused: dict[str, str] = {}
        """Units whose Job the server will not have, and what it said."""
        self._fatal: ClusterError | None = None
        self._hashes: dict[str, str] = {}
        self._client, self._kueue, self._run, self._observer = client, kueue, run, observer
        self._namespace = run.cluster.namespace
        self._queue: asyncio.Queue[tuple[Unit, Deed]] = asyncio.Queue()

    def start(self, tasks: Tasks) -> list[asyncio.Task[None]]:
        """The tasks that carry deeds out, until cancelled."""
        return [tasks.spawn(f"hand-{index}", self._work()) for index in range(AT_ONCE)]

    def do(self, unit: Unit, deed: Deed) -> None:
        """Queues a deed, unless one of the unit's is under way."""
        if unit.name not in self.busy:
            self.busy.add(unit.name)
            self._queue.put_nowait((unit, deed))

    def check(self) -> None:
        """Raises what makes going on pointless: these credentials may not do it."""
        if self._fatal is not None:
            raise self._fatal

    def spec_hash(self, unit: Unit) -> str:
        """Of the Job as we would make it."""
        if unit.name not in self._hashes:
            made = jobs.job(unit, self._run)
            self._hashes[unit.name] = made["metadata"]["annotations"][HASH_ANNOTATION]
        return self._hashes[unit.name]

    @staticmethod
    async def templates(client: Client, run: Run) -> None:
        """The ResourceClaimTemplates that the run's Jobs name."""
        assert run.cluster is not None
        for template in jobs.templates(run):
            try:
                await client.create(CLAIM_TEMPLATES.path(run.cluster.namespace), template)
            except Conflict:
                continue

    async def _work(self) -> None:
        while True:
            unit, deed = await self._queue.get()
            try:
                await self._do(unit, deed)
                self._observer.troubles.pop("writes", None)
            except Forbidden as error:
                self._fatal = error
            except Unreachable as error:
                self._observer.troubles["writes"] = str(error)
                await asyncio.sleep(error.seconds if isinstance(error, Busy) else PAUSE_SECONDS)
            except ClusterError as error:
                self.refused[unit.name] = str(error)
            finally:
                self.busy.discard(unit.name)
                self._observer.mark(unit.name)

    async def _do(self, unit: Unit, deed: Deed) -> None:
        match deed:
            case Create():
                await self._create(unit)
            case Delete(uid=uid) | GiveUp(uid=uid):
                self._observer.deleting(uid)
                await self._delete(unit, uid)
            case Hold(workload=name):
                await hold(self._client, self._kueue, self._namespace, name)

    async def _create(self, unit: Unit) -> None:
        """Makes the Job. One that is there already will do; if it has another spec, reconcile sees that next."""
        made = jobs.job(unit, self._run)
        try:
            answer = await self._client.create(JOBS.path(self._namespace), made)
        except Conflict:
            answer = await self._client.get(JOBS.path(self._namespace, unit.name))
            if answer["metadata"].get("labels", {}).get(RUN_LABEL) != self._run.name:
                remedy = "give this one another name with --run"
                raise Invalid(f"Job {unit.name} exists and is of another run", remedy=remedy) from None
        self._observer.created(answer)

    async def _delete(self, unit: Unit, uid: str) -> None:
        try:
            await self._client.delete(JOBS.path(self._namespace, unit.name), uid=uid)
        except Conflict:
            return  # another Job has this name by now


async def hold(client: Client, kueue: Kueue, namespace: str, workload: str, *, active: bool = False) -> None:
    """Takes a Workload out of its queue (Kueue stops it if it runs), or puts it back. One that is gone is no error."""
    annotation = None if active else "true"
    body = {"metadata": {"annotations": {PAUSED_ANNOTATION: annotation}}, "spec": {"active": active}}
    try:
        await client.patch(kueue.workloads.path(namespace, workload), body)
    except NotFound:
        return


async def stop_queue(
    client: Client, kueue: Kueue, namespace: str, queue: str, policy: Literal["None", "Hold", "HoldAndDrain"]
) -> None:
    """Holds a LocalQueue, for everybody who uses it, or lets it go on."""
    await client.patch(kueue.local_queues.path(namespace, queue), {"spec": {"stopPolicy": policy}})
