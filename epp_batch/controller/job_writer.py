"""Carries out what reconcile decided: a few calls at once, each safe to repeat."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.controller.reconcile import Create, Delete, GiveUp, Hold
from epp_batch.controller.run_informer import Observer
from epp_batch.errors import ClusterError, Unreachable
from epp_batch.kube.client import Client
from epp_batch.kube.errors import Busy, Conflict, Forbidden, Invalid, NotFound
from epp_batch.kube.resources import CLAIM_TEMPLATES, JOBS, PAUSED_ANNOTATION, Kueue
from epp_batch.manifests import jobs
from epp_batch.manifests.jobs import HASH_ANNOTATION, RUN_LABEL
from epp_batch.spec import Run, Unit

AT_ONCE = 16
PAUSE_SECONDS = 1.0
Deed = Create | Delete | GiveUp | Hold


class Hands:
    """One deed a unit, `AT_ONCE` in all; what failed for now is decided anew.

    The first one goes alone and each success lets another go beside it, so that a server that is down or refuses is not
    asked many times. In one second no more Jobs are made than Kueue keeps in their order.
    """

    def __init__(self, client: Client, kueue: Kueue, run: Run, observer: Observer, tasks: Tasks, clock: Clock) -> None:
        assert run.cluster is not None
        self.busy: set[str] = set()
        self.refused: dict[str, str] = {}
        """Units whose Job the server will not have, and what it said."""
        self._fatal: ClusterError | None = None
        self._hashes: dict[str, str] = {}
        self._client, self._kueue, self._run, self._observer, self._tasks = client, kueue, run, observer, tasks
        self._namespace = run.cluster.namespace
        self._waiting: deque[tuple[Unit, Deed]] = deque()
        self._working: set[asyncio.Task[None]] = set()
        self._limit = 1
        self._clock, self._rate = clock, jobs.a_second(len(run.units))
        self._second, self._made = 0, 0
        self._timer: asyncio.TimerHandle | None = None

    def do(self, unit: Unit, deed: Deed) -> None:
        """Queues a deed, unless one of the unit's is under way."""
        if unit.name not in self.busy:
            self.busy.add(unit.name)
            self._waiting.append((unit, deed))
            self._start()

    async def close(self) -> None:
        """Breaks off what is under way."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        working = list(self._working)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

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

    def _start(self) -> None:
        while self._waiting and len(self._working) < self._limit:
            if isinstance(self._waiting[0][1], Create) and not self._may_create():
                return
            unit, deed = self._waiting.popleft()
            task = self._tasks.spawn(unit.name, self._carry_out(unit, deed))
            self._working.add(task)
            task.add_done_callback(self._over)

    def _may_create(self) -> bool:
        """Whether this second has room for another Job; else it is asked again in the next one."""
        now = self._clock.wall()
        if int(now) != self._second:
            self._second, self._made = int(now), 0
        if self._made < self._rate:
            self._made += 1
            return True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.01 - now % 1.0, self._next_second)
        return False

    def _next_second(self) -> None:
        self._timer = None
        self._start()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._start()

    async def _carry_out(self, unit: Unit, deed: Deed) -> None:
        try:
            await self._do(unit, deed)
            self._limit = min(AT_ONCE, self._limit + 1)
            self._observer.troubles.pop("writes", None)
        except Forbidden as error:
            self._fatal = error
            self._waiting.clear()
        except Unreachable as error:
            self._limit = 1
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
