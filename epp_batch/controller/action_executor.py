"""Executes the reconciler's actions on Jobs: asynchronously, with limited concurrency and creation rate."""

from __future__ import annotations

import asyncio
from collections import deque

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.controller.job_writer import MAX_CONCURRENT_WRITES, JobWriter
from epp_batch.controller.reconcile import CreateJob, Deactivate, DeleteJob, Fail
from epp_batch.controller.run_informer import RunInformer
from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.errors import Forbidden, TooManyRequests
from epp_batch.kube.resources import KueueResources
from epp_batch.manifests import jobs
from epp_batch.spec import Run, Unit

RETRY_SECONDS = 1.0
JobAction = CreateJob | DeleteJob | Fail | Deactivate


class ActionExecutor:
    """Executes actions of one run, one per unit and MAX_CONCURRENT_WRITES in total.

    A transient failure drops the action; the next reconciliation issues it again. Concurrency starts at 1 and grows by
    1 with each success, so that a server that is down or sheds load gets one request at a time. Jobs are created in the
    order of submission at the rate of `jobs.compute_creation_rate`, since Kueue orders them by creation timestamp.
    """

    def __init__(
        self, writer: JobWriter, kueue: KueueResources, run: Run, informer: RunInformer, tasks: Tasks, clock: Clock
    ) -> None:
        self.busy_units: set[str] = set()
        """Units with an action that is queued or under way."""
        self.rejected: dict[str, str] = {}
        """Units whose Job the API server rejects for good, with its message."""
        self._fatal_error: ClusterError | None = None
        self._writer, self._kueue, self._run, self._informer, self._tasks = writer, kueue, run, informer, tasks
        self._queue: deque[tuple[Unit, JobAction]] = deque()
        self._running_tasks: set[asyncio.Task[None]] = set()
        self._concurrency_limit = 1
        self._clock, self._creates_per_second = clock, jobs.compute_creation_rate(len(run.units))
        self._current_second, self._created_this_second = 0, 0
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, unit: Unit, action: JobAction) -> None:
        """Queues an action, unless the unit has one already."""
        if unit.name not in self.busy_units:
            self.busy_units.add(unit.name)
            self._queue.append((unit, action))
            self._start_actions()

    async def close(self) -> None:
        """Cancels what is queued and under way."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
        running = list(self._running_tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def raise_if_failed(self) -> None:
        """Raises Forbidden if an action failed for missing rights: every other action would fail as well."""
        if self._fatal_error is not None:
            raise self._fatal_error

    def _start_actions(self) -> None:
        while self._queue and len(self._running_tasks) < self._concurrency_limit:
            if isinstance(self._queue[0][1], CreateJob) and not self._acquire_create_slot():
                return
            unit, action = self._queue.popleft()
            task = self._tasks.spawn(unit.name, self._execute(unit, action))
            self._running_tasks.add(task)
            task.add_done_callback(self._on_task_done)

    def _acquire_create_slot(self) -> bool:
        """Whether another Job may be created in this second; if not, a timer starts the queue in the next one."""
        now = self._clock.wall()
        if int(now) != self._current_second:
            self._current_second, self._created_this_second = int(now), 0
        if self._created_this_second < self._creates_per_second:
            self._created_this_second += 1
            return True
        if self._timer is None:
            # 10 ms late, so that the wall clock has reached the next second.
            self._timer = asyncio.get_running_loop().call_later(1.01 - now % 1.0, self._on_next_second)
        return False

    def _on_next_second(self) -> None:
        self._timer = None
        self._start_actions()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._running_tasks.discard(task)
        self._start_actions()

    async def _execute(self, unit: Unit, action: JobAction) -> None:
        try:
            await self._apply(unit, action)
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

    async def _apply(self, unit: Unit, action: JobAction) -> None:
        match action:
            case CreateJob():
                self._informer.record_created(await self._writer.create_job(unit, self._run))
            case DeleteJob(uid=str(uid)) | Fail(uid=str(uid)):
                self._informer.record_deleting(uid)
                await self._writer.delete_job(unit.name, uid)
            case Deactivate(workload_name=name):
                await self._writer.set_workload_active(self._kueue, name, active=False)
