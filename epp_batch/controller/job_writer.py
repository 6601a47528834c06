"""Carries out what reconcile decided: a few calls at once, each safe to repeat."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.controller.reconcile import CreateJob, Deactivate, DeleteJob, Fail
from epp_batch.controller.run_informer import RunInformer
from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.errors import Conflict, Forbidden, Invalid, NotFound, TooManyRequests
from epp_batch.kube.resources import JOBS, PAUSED_ANNOTATION, RESOURCE_CLAIM_TEMPLATES, KueueResources
from epp_batch.manifests import jobs
from epp_batch.manifests.jobs import HASH_ANNOTATION, RUN_LABEL
from epp_batch.spec import Run, Unit

MAX_CONCURRENT_WRITES = 16
RETRY_SECONDS = 1.0
JobAction = CreateJob | DeleteJob | Fail | Deactivate


class ActionExecutor:
    """One deed a unit, `AT_ONCE` in all; what failed for now is decided anew.

    The first one goes alone and each success lets another go beside it, so that a server that is down or refuses is not
    asked many times. In one second no more Jobs are made than Kueue keeps in their order.
    """

    def __init__(
        self, client: ApiClient, kueue: KueueResources, run: Run, observer: RunInformer, tasks: Tasks, clock: Clock
    ) -> None:
        assert run.cluster is not None
        self.busy_units: set[str] = set()
        self.rejected: dict[str, str] = {}
        """Units whose Job the server will not have, and what it said."""
        self._fatal_error: ClusterError | None = None
        self._spec_hashes: dict[str, str] = {}
        self._client, self._kueue, self._run, self._informer, self._tasks = client, kueue, run, observer, tasks
        self._namespace = run.cluster.namespace
        self._queue: deque[tuple[Unit, JobAction]] = deque()
        self._running_tasks: set[asyncio.Task[None]] = set()
        self._concurrency_limit = 1
        self._clock, self._creates_per_second = clock, jobs.compute_creation_rate(len(run.units))
        self._current_second, self._created_this_second = 0, 0
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, unit: Unit, deed: JobAction) -> None:
        """Queues a deed, unless one of the unit's is under way."""
        if unit.name not in self.busy_units:
            self.busy_units.add(unit.name)
            self._queue.append((unit, deed))
            self._start_actions()

    async def close(self) -> None:
        """Breaks off what is under way."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
        working = list(self._running_tasks)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    def raise_if_failed(self) -> None:
        """Raises what makes going on pointless: these credentials may not do it."""
        if self._fatal_error is not None:
            raise self._fatal_error

    def spec_hash(self, unit: Unit) -> str:
        """Of the Job as we would make it."""
        if unit.name not in self._spec_hashes:
            made = jobs.build_job(unit, self._run)
            self._spec_hashes[unit.name] = made["metadata"]["annotations"][HASH_ANNOTATION]
        return self._spec_hashes[unit.name]

    @staticmethod
    async def create_claim_templates(client: ApiClient, run: Run) -> None:
        """The ResourceClaimTemplates that the run's Jobs name."""
        assert run.cluster is not None
        for template in jobs.build_claim_templates(run):
            try:
                await client.create(RESOURCE_CLAIM_TEMPLATES.path(run.cluster.namespace), template)
            except Conflict:
                continue

    def _start_actions(self) -> None:
        while self._queue and len(self._running_tasks) < self._concurrency_limit:
            if isinstance(self._queue[0][1], CreateJob) and not self._acquire_create_slot():
                return
            unit, deed = self._queue.popleft()
            task = self._tasks.spawn(unit.name, self._execute(unit, deed))
            self._running_tasks.add(task)
            task.add_done_callback(self._on_task_done)

    def _acquire_create_slot(self) -> bool:
        """Whether this second has room for another Job; else it is asked again in the next one."""
        now = self._clock.wall()
        if int(now) != self._current_second:
            self._current_second, self._created_this_second = int(now), 0
        if self._created_this_second < self._creates_per_second:
            self._created_this_second += 1
            return True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.01 - now % 1.0, self._on_next_second)
        return False

    def _on_next_second(self) -> None:
        self._timer = None
        self._start_actions()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._running_tasks.discard(task)
        self._start_actions()

    async def _execute(self, unit: Unit, deed: JobAction) -> None:
        try:
            await self._apply(unit, deed)
            self._concurrency_limit = min(MAX_CONCURRENT_WRITES, self._concurrency_limit + 1)
            self._informer.api_errors.pop("writes", None)
        except Forbidden as error:
            self._fatal_error = error
            self._queue.clear()
        except ApiServerUnreachable as error:
            self._concurrency_limit = 1
            self._informer.api_errors["writes"] = str(error)
            await asyncio.sleep(error.retry_after_seconds if isinstance(error, TooManyRequests) else RETRY_SECONDS)
        except ClusterError as error:
            self.rejected[unit.name] = str(error)
        finally:
            self.busy_units.discard(unit.name)
            self._informer.mark_dirty(unit.name)

    async def _apply(self, unit: Unit, deed: JobAction) -> None:
        match deed:
            case CreateJob():
                await self._create_job(unit)
            case DeleteJob(uid=uid) | Fail(uid=uid):
                self._informer.record_deleting(uid)
                await self._delete_job(unit, uid)
            case Deactivate(workload_name=name):
                await set_workload_active(self._client, self._kueue, self._namespace, name)

    async def _create_job(self, unit: Unit) -> None:
        """Makes the Job. One that is there already will do; if it has another spec, reconcile sees that next."""
        made = jobs.build_job(unit, self._run)
        try:
            answer = await self._client.create(JOBS.path(self._namespace), made)
        except Conflict:
            answer = await self._client.get(JOBS.path(self._namespace, unit.name))
            if answer["metadata"].get("labels", {}).get(RUN_LABEL) != self._run.name:
                remedy = "give this one another name with --run"
                raise Invalid(f"Job {unit.name} exists and is of another run", remedy=remedy) from None
        self._informer.record_created(answer)

    async def _delete_job(self, unit: Unit, uid: str) -> None:
        try:
            await self._client.delete(JOBS.path(self._namespace, unit.name), uid=uid)
        except Conflict:
            return  # another Job has this name by now


async def set_workload_active(
    client: ApiClient, kueue: KueueResources, namespace: str, workload: str, *, active: bool = False
) -> None:
    """Takes a Workload out of its queue (Kueue stops it if it runs), or puts it back. One that is gone is no error."""
    annotation = None if active else "true"
    body = {"metadata": {"annotations": {PAUSED_ANNOTATION: annotation}}, "spec": {"active": active}}
    try:
        await client.patch(kueue.workloads.path(namespace, workload), body)
    except NotFound:
        return


async def set_queue_stop_policy(
    client: ApiClient,
    kueue: KueueResources,
    namespace: str,
    queue: str,
    policy: Literal["None", "Hold", "HoldAndDrain"],
) -> None:
    """Holds a LocalQueue, for everybody who uses it, or lets it go on."""
    await client.patch(kueue.local_queues.path(namespace, queue), {"spec": {"stopPolicy": policy}})
