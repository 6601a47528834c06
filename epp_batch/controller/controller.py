"""Control loop of one run: reconcile the units that changed, execute the actions, record events.

Level-triggered: each reconciliation compares the desired state with the folder and the API objects as they are now, and
depends on no earlier one. So a driver that was killed at any point can be replaced by another.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.controller import control, diagnosis
from epp_batch.controller.action_executor import ActionExecutor, JobAction
from epp_batch.controller.desired import DesiredState, RunIntent, UnitFacts, derive_desired_state
from epp_batch.controller.event_recorder import EventRecorder
from epp_batch.controller.job_writer import JobWriter
from epp_batch.controller.queue_positions import list_queue_positions
from epp_batch.controller.reconcile import (
    CancelTasks,
    CollectResults,
    Deactivate,
    Fail,
    ObservedState,
    next_action,
)
from epp_batch.controller.run_informer import RunInformer
from epp_batch.controller.task_results import TaskTracker
from epp_batch.controller.unit_status import ENDED_PHASES, UnitObjects, UnitStatus, derive_unit_status
from epp_batch.controller.worker_progress import WorkerProgressReader
from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.resources import KueueResources
from epp_batch.manifests import jobs
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view import ProgressView
from epp_batch.spec import Run, Unit

TICK_SECONDS = 1.0
"""Between two updates of the view; the longest time without a reconciliation of units that wait for time to pass."""
POLL_SECONDS = 5.0
"""Between two requests for progress, for files of shards and for queue positions."""
PROGRESS_SAMPLES = 64
"""Running units whose progress is requested per poll: a random sample if more are running."""
MAX_BACKOFF_SECONDS = 10.0
"""Between two attempts to reach the API server before the informer has started; doubled from TICK_SECONDS."""
REPLAY_TIMEOUT_SECONDS = 10.0
"""If all tasks have ended before the driver starts, the cluster is needed only for the times of their last events. The
run ends after this time without them."""


class RunController:
    """Controls one run. Create it, `run` it once, `close` it; on the event loop only."""

    def __init__(
        self,
        run: Run,
        folder: OutputFolder,
        client: ApiClient,
        clock: Clock,
        view: ProgressView,
        recorder: EventRecorder,
        intent: RunIntent,
    ) -> None:
        """`intent.control` is read from the folder, whatever it is here."""
        assert run.cluster is not None
        self.task_tracker = TaskTracker(run, folder, writes=intent.owns_folder)
        self._run, self._folder, self._client, self._clock, self._view = run, folder, client, clock, view
        self._cluster, self._recorder = run.cluster, recorder
        self._units = {unit.name: unit for unit in run.units}
        self._submission_order = {name: index for index, name in enumerate(self._units)}
        self._intent = intent
        self._writer = JobWriter(client, run.cluster.namespace)
        self._informer = RunInformer(self._units)
        self._open_units = set(self._units)
        """Units that still need reconciliation: they have open tasks, or their end is not recorded."""
        self._statuses: dict[str, tuple[UnitStatus, float]] = {}
        """Status of each unit, and the wall second at which it was first observed."""
        self._timed_units: set[str] = set()
        """Units that time alone may change: reconciled at every tick."""
        self._preexisting_uids: dict[str, str] = {}
        """By unit, the uid of a Job that had ended when it was first observed; empty if it had not."""
        self._spec_hashes: dict[str, str] = {}
        self._queue_position: int | None = None
        self._view_updated_at = float("-inf")
        self._background_tasks: list[asyncio.Task[Any]] = []

    async def run(self, tasks: Tasks, rng: random.Random) -> None:
        """Returns when every task has ended and every end is recorded."""
        self._replay_folder()
        if any(self.task_tracker.open_tasks(self._units[name]) for name in self._open_units):
            await self._run_control_loop(tasks, rng)
        # All tasks have ended, but the journal lacks the end of some units: their Jobs may still show when it was.
        elif self._open_units:
            with contextlib.suppress(ClusterError, TimeoutError):
                async with asyncio.timeout(REPLAY_TIMEOUT_SECONDS):
                    await self._run_control_loop(tasks, rng)
            for unit in (self._units[name] for name in sorted(self._open_units)):
                finished_at = self.task_tracker.last_finished_at(unit)
                self._record_unit_end(unit, UnitObjects(), self._clock.wall(), at=finished_at)
        self._update_view(self._clock.wall())

    async def close(self) -> None:
        """Cancels the background tasks that `run` started."""
        for task in self._background_tasks:
            task.cancel()
        await asyncio.gather(*self._background_tasks, return_exceptions=True)

    async def _run_control_loop(self, tasks: Tasks, rng: random.Random) -> None:
        kueue = await self._wait_for_server()
        self._executor = ActionExecutor(self._writer, kueue, self._run, self._informer, tasks, self._clock)
        self._background_tasks += self._informer.start(
            self._client, kueue, self._cluster.namespace, self._run.name, tasks, rng
        )
        while not await self._informer.wait_for_sync(TICK_SECONDS):
            self._update_view(self._clock.wall())
        self._informer.dirty_units |= self._open_units
        self._background_tasks.append(tasks.supervise("progress", lambda: self._poll_progress(kueue, rng)))
        try:
            await self._reconcile_until_done()
        finally:
            await self._executor.close()

    # -- start --------------------------------------------------------------------------------------------------

    def _replay_folder(self) -> None:
        """Records what the folder and the journal prove without the cluster, and drops units that need none."""
        self._read_control()
        for unit in self._run.units:
            for task, result in self.task_tracker.collect_finished(unit):
                self._recorder.record_transcript(task, result)
            if not self._intent.retry_failed:
                for task, failure in self.task_tracker.collect_failed(unit):
                    self._recorder.record_failure(task, failure)
            if not self.task_tracker.open_tasks(unit) and not self._lacks_end_event(unit.name):
                self._open_units.discard(unit.name)
        self._recorder.tracker.reset_speed_baseline()

    def _lacks_end_event(self, name: str) -> bool:
        """Whether the journal has events of the unit but not its end: its Job may still exist and show the times."""
        deduplicator = self._recorder.deduplicator
        return deduplicator.has_events(name) and not deduplicator.has_ended(name)

    async def _wait_for_server(self) -> KueueResources:
        """Retries until the API server answers; creates the claim templates that Jobs refer to."""
        backoff = TICK_SECONDS
        while True:
            try:
                kueue = await self._client.discover_kueue()
                if self._intent.creates_jobs:
                    await self._writer.create_claim_templates(self._run)
                self._informer.api_errors.pop("server", None)
                return kueue
            except ApiServerUnreachable as error:
                self._informer.api_errors["server"] = str(error)
            self._update_view(self._clock.wall())
            await asyncio.sleep(backoff)
            backoff = min(MAX_BACKOFF_SECONDS, backoff * 2)

    # -- reconciliation -----------------------------------------------------------------------------------------

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
                control_before = self._intent.control
                self._update_view(now)
                unchanged = self._intent.control == control_before
                self._informer.dirty_units |= self._timed_units if unchanged else self._open_units
            await self._informer.wait_for_change(TICK_SECONDS)

    def _pop_dirty_units(self) -> list[str]:
        """Takes all names out of the informer's work queue, in order of submission."""
        dirty, self._informer.dirty_units = self._informer.dirty_units, set()
        return sorted(dirty, key=self._submission_order.__getitem__)

    def _reconcile_unit(self, unit: Unit, now: float) -> None:
        """Records the unit's new milestones and results, and starts the next action on its Job."""
        name = unit.name
        objects = self._informer.unit_objects(name)
        self._recorder.record_milestones(name, objects, now)
        if name not in self._open_units:
            return
        status = derive_unit_status(objects)
        observed = ObservedState(objects, status, self._track_status(name, status, now))
        # Transcripts come before failures. In the other phases the unit is yet to run (again): its files are read then.
        if status.phase in ("absent", "running", *ENDED_PHASES):
            self._record_finished(unit, objects, now)
        action = next_action(self._desired_state(unit, observed), observed)
        match action:
            case CollectResults():
                self._finalize_unit(unit, observed, now)
            case CancelTasks():
                for task in self.task_tracker.cancel_unit(unit):
                    self._recorder.record_task_end(unit, objects, task, "cancelled", now)
            case Fail():
                self._fail_unit(unit, status, objects, now)
            case Deactivate() if control.read_control(self._folder).state != "paused":
                action = None  # resumed since the last tick
        if name in self._executor.rejected:
            # In phase `queued` the failure is of kind `refused`: no worker has seen the task.
            self._fail_unit(unit, UnitStatus("queued", "Refused", self._executor.rejected[name]), objects, now)
        elif isinstance(action, JobAction) and not (isinstance(action, Fail) and action.uid is None):
            self._executor.submit(unit, action)
        # A pod ends a moment after its worker has written the last transcript: the unit's end is that of its Job.
        if not self.task_tracker.open_tasks(unit) and status.phase not in ("running", "admitted"):
            self._open_units.discard(name)
            self._timed_units.discard(name)
            finished_at = None if objects.job is not None else self.task_tracker.last_finished_at(unit)
            self._record_unit_end(unit, objects, now, at=finished_at)

    def _track_status(self, name: str, status: UnitStatus, now: float) -> float:
        """Records the unit's status; returns the seconds since it last changed."""
        before = self._statuses.get(name)
        since = before[1] if before is not None and before[0] == status else now
        self._statuses[name] = (status, since)
        # The phases with a grace period (INADMISSIBLE_, RESULT_FILE_, TERMINATION_MESSAGE_GRACE_SECONDS), and `absent`:
        # without a Job, a transcript that appears in the folder changes no API object.
        timed = status.never_admissible or status.phase in ("succeeded", "failed", "absent")
        (self._timed_units.add if timed else self._timed_units.discard)(name)
        return now - since

    def _desired_state(self, unit: Unit, observed: ObservedState) -> DesiredState:
        name, job, phase = unit.name, observed.objects.job, observed.status.phase
        if job is not None:
            self._preexisting_uids.setdefault(name, job.metadata.uid if phase in ENDED_PHASES else "")
        facts = UnitFacts(
            has_open_tasks=bool(self.task_tracker.open_tasks(unit)),
            phase=phase,
            phase_seconds=observed.status_seconds,
            ended_before_start=job is not None and self._preexisting_uids[name] == job.metadata.uid,
            has_damaged_transcript=phase == "succeeded" and self.task_tracker.has_damaged_transcript(unit),
            deleted_externally=name in self._informer.deleted_externally,
            spec_hash=self._spec_hash(unit) if self._intent.creates_jobs else "",
        )
        return derive_desired_state(self._intent, facts)

    def _spec_hash(self, unit: Unit) -> str:
        if unit.name not in self._spec_hashes:
            self._spec_hashes[unit.name] = jobs.build_job(unit, self._run)["metadata"]["annotations"][
                jobs.HASH_ANNOTATION
            ]
        return self._spec_hashes[unit.name]

    # -- results ------------------------------------------------------------------------------------------------

    def _record_finished(self, unit: Unit, objects: UnitObjects, now: float) -> None:
        for task, result in self.task_tracker.collect_finished(unit):
            self._recorder.record_transcript(task, result)
            self._recorder.record_task_end(unit, objects, task, "finished", now)

    def _finalize_unit(self, unit: Unit, observed: ObservedState, now: float) -> None:
        objects = observed.objects
        results = self.task_tracker.finalize_unit(unit, observed.status, objects, now, observed.status_seconds)
        for task, result in results.done:
            self._recorder.record_transcript(task, result)
            self._recorder.record_task_end(unit, objects, task, "finished", now)
        for task, failure in results.failed:
            self._recorder.record_failure(task, failure)
            self._recorder.record_task_end(unit, objects, task, "failed", now)

    def _fail_unit(self, unit: Unit, status: UnitStatus, objects: UnitObjects, now: float) -> None:
        for task, failure in self.task_tracker.fail_unit(unit, status, now):
            self._recorder.record_failure(task, failure)
            self._recorder.record_task_end(unit, objects, task, "failed", now)

    def _record_unit_end(self, unit: Unit, objects: UnitObjects, now: float, *, at: float | None = None) -> None:
        """Records the end of the unit once: failed if any task failed, else cancelled if any was, else finished."""
        if self._recorder.deduplicator.has_ended(unit.name):
            return
        stems = [task.stem for task in unit.tasks]
        failures = [self.task_tracker.failed[stem] for stem in stems if stem in self.task_tracker.failed]
        if failures:
            self._recorder.record_unit_end(unit, objects, "failed", now, detail=failures[0].message, at=at)
        elif any(stem in self.task_tracker.cancelled for stem in stems):
            self._recorder.record_unit_end(unit, objects, "cancelled", now)
        else:
            self._recorder.record_unit_end(unit, objects, "finished", now, at=at)

    # -- status and progress ------------------------------------------------------------------------------------

    def _read_control(self) -> None:
        self._intent = self._intent._replace(control=control.read_control(self._folder).state)

    def _update_view(self, now: float) -> None:
        self._view_updated_at = now
        self._read_control()
        open_statuses = {
            name: (status, now - since) for name, (status, since) in self._statuses.items() if name in self._open_units
        }
        troubles = list(dict.fromkeys(self._informer.api_errors.values())) or diagnosis.diagnose_stalls(open_statuses)
        tracker = self._recorder.tracker
        if self._intent.control == "paused" and any(
            tracker.recording_phase(task.stem) == "planned" for task in self._run.list_tasks()
        ):
            troubles.append("paused: no more Jobs are created until `epp-batch resume`")
        self._view.on_status(tracker.status(now, position=self._queue_position, troubles=troubles))

    async def _poll_progress(self, kueue: KueueResources, rng: random.Random) -> None:
        """Polls the progress of running units, the files of shards and the queue position; each may be unavailable."""
        reader = WorkerProgressReader(self._client, self._cluster.namespace, self._folder)
        while True:
            observed_names = sorted(self._open_units & self._statuses.keys())
            running = [name for name in observed_names if self._statuses[name][0].phase == "running"]
            for name in rng.sample(running, min(len(running), PROGRESS_SAMPLES)):
                await self._poll_unit_progress(reader, self._units[name])
            objects = [self._informer.unit_objects(name) for name in self._open_units]
            positions = await list_queue_positions(self._client, kueue, self._cluster.namespace, objects)
            self._queue_position = min(positions.values(), default=None)
            await asyncio.sleep(POLL_SECONDS)

    async def _poll_unit_progress(self, reader: WorkerProgressReader, unit: Unit) -> None:
        pod = self._informer.unit_objects(unit.name).newest_pod
        if pod is None:
            return
        self._informer.mark_dirty(unit.name)  # a transcript in the folder changes no API object
        position = await reader.read_audio_position(self.task_tracker.open_tasks(unit), pod)
        if position is not None:
            done = (self.task_tracker.done.get(task.stem) for task in unit.tasks)
            finished_seconds = sum(result.audio_seconds for result in done if result is not None)
            self._recorder.record_progress(unit.name, finished_seconds + position)
