"""The rounds of a run: what changed is looked at, what reconcile says is done, what came of it is told.

Level-triggered: a round compares the run with what the folder and the cluster show now, so a driver that was killed at
any point is replaced by another.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.controller import control, diagnosis, reconcile
from epp_batch.controller.event_recorder import EventRecorder
from epp_batch.controller.job_writer import ActionExecutor, JobAction
from epp_batch.controller.queue_positions import request_queue_positions
from epp_batch.controller.run_informer import RunInformer
from epp_batch.controller.task_results import RESULT_FILE_GRACE_SECONDS, TaskTracker
from epp_batch.controller.unit_status import UnitObjects, UnitStatus, derive_unit_status
from epp_batch.controller.worker_progress import WorkerProgressReader
from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.resources import KueueResources
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view import ProgressView
from epp_batch.spec import Run, Unit

TICK_SECONDS = 1.0
POLL_SECONDS = 5.0
"""Between two looks at progress, at files of shards and at the queue."""
PROGRESS_SAMPLES = 64
"""At progress at a time, of however many that run."""
MAX_BACKOFF_SECONDS = 10.0
REPLAY_TIMEOUT_SECONDS = 10.0
"""How long to wait for a cluster that has only to tell how finished work came about."""


class RunController:
    """One run in this process."""

    def __init__(
        self,
        run: Run,
        folder: OutputFolder,
        client: ApiClient,
        clock: Clock,
        view: ProgressView,
        teller: EventRecorder,
        *,
        alone: bool,
    ) -> None:
        """`alone`: no other driver is there, which would make what is missing and keep the folder."""
        assert run.cluster is not None
        self.task_tracker = TaskTracker(run, folder, writes=alone)
        self._run, self._folder, self._client, self._clock, self._view = run, folder, client, clock, view
        self._cluster, self._recorder = run.cluster, teller
        self._units = {unit.name: unit for unit in run.units}
        self._informer = RunInformer(self._units)
        self._statuses: dict[str, tuple[UnitStatus, float]] = {}
        self._submission_order = {name: index for index, name in enumerate(self._units)}
        self._open_units = set(self._units)
        self._background_tasks: list[asyncio.Task[Any]] = []
        self._timed_units: set[str] = set()
        self._preexisting_uids: dict[str, str] = {}
        self._queue_position: int | None = None
        self._control_state: control.ControlState = "go"
        self._view_updated_at = float("-inf")
        self._owns_folder, self._may_create, self._retry_failed = alone, False, False

    async def run(self, tasks: Tasks, dice: random.Random, *, create: bool, retry: bool) -> None:
        """Until every task has an end."""
        self._may_create, self._retry_failed = create, retry
        self._replay_journal()
        if any(self.task_tracker.open_tasks(self._units[name]) for name in self._open_units):
            await self._run_control_loop(tasks, dice)
        elif self._open_units:
            with contextlib.suppress(ClusterError, TimeoutError):
                async with asyncio.timeout(REPLAY_TIMEOUT_SECONDS):
                    await self._run_control_loop(tasks, dice)
            for name in sorted(self._open_units):
                self._record_unit_end(
                    self._units[name],
                    UnitObjects(),
                    self._clock.wall(),
                    at=self.task_tracker.last_finished_at(self._units[name]),
                )
        self._update_view(self._clock.wall())

    async def _run_control_loop(self, tasks: Tasks, dice: random.Random) -> None:
        kueue = await self._wait_for_server()
        self._executor = ActionExecutor(self._client, kueue, self._run, self._informer, tasks, self._clock)
        self._background_tasks += self._informer.start(
            self._client, kueue, self._cluster.namespace, self._run.name, tasks, dice
        )
        await self._wait_for_sync()
        self._background_tasks.append(tasks.supervise("slow", lambda: self._poll_progress(kueue, dice)))
        try:
            await self._reconcile_until_done()
        finally:
            await self._executor.close()

    async def close(self) -> None:
        """Ends what `run` started."""
        for task in self._background_tasks:
            task.cancel()
        await asyncio.gather(*self._background_tasks, return_exceptions=True)

    # -- before -------------------------------------------------------------------------------------------------

    def _replay_journal(self) -> None:
        """What the folder and the journal know without the cluster."""
        self._control_state = control.read_control(self._folder).state
        for unit in self._run.units:
            for task, result in self.task_tracker.collect_finished(unit):
                self._recorder.record_transcript(task, result)
            if not self._retry_failed:
                for task, failure in self.task_tracker.collect_failed(unit):
                    self._recorder.record_failure(task, failure)
            if not self.task_tracker.open_tasks(unit) and not self._lacks_end_event(unit.name):
                self._open_units.discard(unit.name)
        self._recorder.tracker.reset_speed_baseline()

    def _lacks_end_event(self, name: str) -> bool:
        """Whether the journal has a beginning of it, and no end: its Job may still be there to tell."""
        chronicle = self._recorder.deduplicator
        return chronicle.has_events(name) and not chronicle.has_ended(name)

    async def _wait_for_server(self) -> KueueResources:
        """Waits for an API server that is away just now; makes what Jobs name."""
        pause = TICK_SECONDS
        while True:
            try:
                kueue = await self._client.discover_kueue()
                if self._may_create:
                    await ActionExecutor.create_claim_templates(self._client, self._run)
                self._informer.api_errors.pop("server", None)
                return kueue
            except ApiServerUnreachable as error:
                self._informer.api_errors["server"] = str(error)
            self._update_view(self._clock.wall())
            await asyncio.sleep(pause)
            pause = min(MAX_BACKOFF_SECONDS, pause * 2)

    async def _wait_for_sync(self) -> None:
        """Until everything was listed once; only then is what is missing really missing."""
        while not await self._informer.wait_for_sync(TICK_SECONDS):
            self._update_view(self._clock.wall())
        self._informer.dirty_units |= self._open_units

    # -- rounds -------------------------------------------------------------------------------------------------

    async def _reconcile_until_done(self) -> None:
        while True:
            self._informer.raise_if_failed()
            self._executor.raise_if_failed()
            now = self._clock.wall()
            for name in self._pop_dirty_units():
                self._reconcile_unit(self._units[name], now)
            if not self._open_units and not self._executor.busy_units:
                return
            if now - self._view_updated_at >= TICK_SECONDS:
                held = self._control_state
                self._update_view(now)
                self._informer.dirty_units |= self._timed_units if self._control_state == held else self._open_units
            await self._informer.wait_for_change(TICK_SECONDS)

    def _pop_dirty_units(self) -> list[str]:
        """What changed, in order of submission."""
        dirty, self._informer.dirty_units = self._informer.dirty_units, set()
        return sorted(dirty, key=self._submission_order.__getitem__)

    def _reconcile_unit(self, unit: Unit, now: float) -> None:
        """One unit: tell, decide, do."""
        name = unit.name
        facts = self._informer.unit_objects(name)
        self._recorder.record_milestones(name, facts, now)
        if name not in self._open_units:
            return
        at = derive_unit_status(facts)
        waited = self._track_status(name, at, now)
        if at.phase in ("absent", "running", "succeeded", "failed"):
            self._record_finished(unit, facts, now)
        act = reconcile.next_action(self._desired_state(unit, facts, at, waited), facts)
        match act:
            case reconcile.CollectResults():
                self._finalize_unit(unit, at, facts, now, waited)
            case reconcile.JobDeletedExternally():
                self._cancel_unit(unit, facts, now)
            case reconcile.Fail():
                self._fail_unit(unit, at, facts, now)
            case reconcile.Deactivate() if control.read_control(self._folder).state != "paused":
                act = None  # resumed since the last tick
        if name in self._executor.rejected:
            self._fail_unit(unit, UnitStatus("queued", "Refused", self._executor.rejected[name]), facts, now)
        elif self._may_create and isinstance(act, JobAction):
            self._executor.submit(unit, act)
        if not self.task_tracker.open_tasks(unit) and at.phase not in ("running", "admitted"):
            self._open_units.discard(name)
            self._timed_units.discard(name)
            self._record_unit_end(
                unit, facts, now, at=None if facts.job is not None else self.task_tracker.last_finished_at(unit)
            )

    def _track_status(self, name: str, at: UnitStatus, now: float) -> float:
        """For how many seconds a unit is in this state. What time alone can change is looked at again."""
        before = self._statuses.get(name)
        since = before[1] if before is not None and before[0] == at else now
        self._statuses[name] = (at, since)
        timed = at.never_admissible or at.phase in ("succeeded", "failed", "absent")
        (self._timed_units.add if timed else self._timed_units.discard)(name)
        return now - since

    def _desired_state(self, unit: Unit, facts: UnitObjects, at: UnitStatus, waited: float) -> reconcile.DesiredState:
        name = unit.name
        uid = facts.job.metadata.uid if facts.job is not None else None
        create = self._may_create and self._control_state != "cancelled"
        if uid is not None:
            self._preexisting_uids.setdefault(name, uid if at.phase in ("succeeded", "failed", "deactivated") else "")
        again = waited > RESULT_FILE_GRACE_SECONDS if at.phase == "succeeded" else self._retry_failed
        return reconcile.DesiredState(
            has_open_tasks=bool(self.task_tracker.open_tasks(unit)),
            may_create=create,
            recreate=create and again and uid is not None and self._preexisting_uids[name] == uid,
            deleted_externally=name in self._informer.deleted_externally
            or (not create and (self._may_create or self._owns_folder)),
            paused=self._control_state == "paused",
            spec_hash=self._executor.spec_hash(unit) if create else "",
            state_seconds=waited,
        )

    # -- ends ---------------------------------------------------------------------------------------------------

    def _record_finished(self, unit: Unit, facts: UnitObjects, now: float) -> None:
        for task, result in self.task_tracker.collect_finished(unit):
            self._recorder.record_transcript(task, result)
            self._recorder.record_task_end(unit, facts, task, "finished", now)

    def _finalize_unit(self, unit: Unit, at: UnitStatus, facts: UnitObjects, now: float, waited: float) -> None:
        for task, result in (settled := self.task_tracker.finalize_unit(unit, at, facts, now, waited)).done:
            self._recorder.record_transcript(task, result)
            self._recorder.record_task_end(unit, facts, task, "finished", now)
        for task, failure in settled.failed:
            self._recorder.record_failure(task, failure)
            self._recorder.record_task_end(unit, facts, task, "failed", now)

    def _fail_unit(self, unit: Unit, at: UnitStatus, facts: UnitObjects, now: float) -> None:
        for task, failure in self.task_tracker.fail_unit(unit, at, now):
            self._recorder.record_failure(task, failure)
            self._recorder.record_task_end(unit, facts, task, "failed", now)

    def _cancel_unit(self, unit: Unit, facts: UnitObjects, now: float) -> None:
        for task in self.task_tracker.cancel_unit(unit):
            self._recorder.record_task_end(unit, facts, task, "cancelled", now)

    def _record_unit_end(self, unit: Unit, facts: UnitObjects, now: float, *, at: float | None = None) -> None:
        """How the unit as a whole has ended, by its worst task; once."""
        if self._recorder.deduplicator.has_ended(unit.name):
            return
        stems = [task.stem for task in unit.tasks]
        failures = [self.task_tracker.failed[stem] for stem in stems if stem in self.task_tracker.failed]
        if failures:
            self._recorder.record_unit_end(unit, facts, "failed", now, detail=failures[0].message, at=at)
        elif any(stem in self.task_tracker.cancelled for stem in stems):
            self._recorder.record_unit_end(unit, facts, "cancelled", now)
        else:
            self._recorder.record_unit_end(unit, facts, "finished", now, at=at)

    # -- looking on ---------------------------------------------------------------------------------------------

    def _update_view(self, now: float) -> None:
        self._view_updated_at = now
        self._control_state = control.read_control(self._folder).state
        states = {name: (at, now - since) for name, (at, since) in self._statuses.items() if name in self._open_units}
        lines = list(dict.fromkeys(self._informer.api_errors.values())) or diagnosis.diagnose_stalls(states)
        if self._control_state == "paused" and "planned" in (
            self._recorder.tracker.recording_phase(t.stem) for t in self._run.list_tasks()
        ):
            lines.append("paused: no more Jobs are made; `epp-batch resume` goes on")
        self._view.on_status(self._recorder.tracker.status(now, position=self._queue_position, troubles=lines))

    async def _poll_progress(self, kueue: KueueResources, dice: random.Random) -> None:
        """Progress, files of shards, the place in the queue: each is nice to know and may be missing."""
        progress = WorkerProgressReader(self._client, self._cluster.namespace, self._folder)
        queues = {self._cluster.placement_for(unit.model).queue or self._cluster.queue for unit in self._run.units}
        while True:
            states = {name: self._statuses[name][0] for name in sorted(self._open_units & self._statuses.keys())}
            running = [name for name, at in states.items() if at.phase == "running"]
            for name in dice.sample(running, min(len(running), PROGRESS_SAMPLES)):
                await self._poll_unit_progress(progress, self._units[name])
            if diagnosis.has_queued_unit(states.values()):
                places = [
                    await request_queue_positions(self._client, kueue, self._cluster.namespace, queue)
                    for queue in queues
                ]
                ours = [
                    place for found in places for name, place in (found or {}).items() if self._is_own_workload(name)
                ]
                self._queue_position = min(ours, default=None)
            else:
                self._queue_position = None
            await asyncio.sleep(POLL_SECONDS)

    async def _poll_unit_progress(self, progress: WorkerProgressReader, unit: Unit) -> None:
        pod = self._informer.unit_objects(unit.name).newest_pod
        if pod is None:
            return
        self._informer.mark_dirty(unit.name)
        at = await progress.read_audio_position(self.task_tracker.open_tasks(unit), pod)
        if at is not None:
            before = sum(
                self.task_tracker.done[t.stem].audio_seconds for t in unit.tasks if t.stem in self.task_tracker.done
            )
            self._recorder.record_progress(unit.name, before + at)

    def _is_own_workload(self, workload: str) -> bool:
        """A Workload is called `job-<Job's name>-<5 hex>`."""
        return workload.removeprefix("job-").rpartition("-")[0] in self._open_units
