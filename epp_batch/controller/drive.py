"""Entry points to a run on a cluster: control it until all its recordings have ended, or create its Jobs once.

Jobs run without a driver, and a driver may be killed at any time: the next one finds everything in the output folder,
the journal and the API server.
"""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.controller import control
from epp_batch.controller.controller import RunController
from epp_batch.controller.desired import RunIntent, UnitFacts, derive_desired_state
from epp_batch.controller.event_recorder import EventRecorder, OnTranscript
from epp_batch.controller.job_writer import JobWriter
from epp_batch.controller.reconcile import Action, CreateJob, DeleteJob, ObservedState, next_action
from epp_batch.controller.run_status import list_run_objects
from epp_batch.controller.task_results import TaskTracker
from epp_batch.controller.unit_status import ENDED_PHASES, UnitObjects, derive_unit_status
from epp_batch.errors import ClusterError, InputError
from epp_batch.kube.client import ApiClient
from epp_batch.manifests import jobs
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
from epp_batch.progress_view import ProgressView
from epp_batch.spec import Run, Task, Unit
from epp_batch.timeline import Journal


class RunOutcome(NamedTuple):
    """How a run ended."""

    done: dict[str, TranscriptionResult]
    """By stem; includes results of earlier drivers."""
    failed: list[TaskFailure]
    cancelled: list[str]
    """Sources of the cancelled tasks."""

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0 if every task is done, else 1."""
        return 1 if self.failed or self.cancelled else 0


async def drive_run(
    run: Run,
    folder: OutputFolder,
    *,
    client: ApiClient,
    clock: Clock,
    tasks: Tasks,
    view: ProgressView,
    on_transcript: OnTranscript | None = None,
    creates_jobs: bool = True,
    retry_failed: bool = False,
    rng: random.Random | None = None,
) -> RunOutcome:
    """Controls a run until every recording has a result, a final failure or was cancelled.

    With `creates_jobs` (`submit`) missing Jobs are created; raises ClusterError if another driver is alive. Without
    (`watch`) results are recorded if no other driver is alive, and else only shown. `retry_failed` replaces Jobs that
    had failed before. `on_transcript` receives every result once, those of earlier drivers first.

    While the API server does not answer, the driver retries and the view shows it. Raises ClusterError for errors that
    a retry does not resolve, such as missing rights.
    """
    if run.cluster is None:
        raise InputError(f"run {run.name} is not for a cluster", remedy="continue it with `epp-batch transcribe`")
    with control.lock_folder(folder) as owns_folder:
        if creates_jobs:
            _claim_folder(folder, clock, owns_folder)
        journal = Journal(folder.events_file) if owns_folder else None
        recorder = EventRecorder(run, folder, journal, view, on_transcript or _ignore_transcript)
        intent = RunIntent(creates_jobs, owns_folder, retry_failed)
        controller = RunController(run, folder, client, clock, view, recorder, intent)
        try:
            await controller.run(tasks, rng or random.Random())
        finally:
            await controller.close()
            if journal is not None:
                journal.close()
    tracker = controller.task_tracker
    cancelled = [task.recording.source for task in run.list_tasks() if task.stem in tracker.cancelled]
    return RunOutcome(tracker.done, list(tracker.failed.values()), cancelled)


async def create_missing_jobs(run: Run, folder: OutputFolder, *, client: ApiClient, retry_failed: bool) -> int:
    """Reconciles every unit once without waiting for results (`submit --no-follow`); returns how many Jobs it created.

    Jobs are created in the order of submission, at the rate of `jobs.compute_creation_rate`. The request of `pause`
    is not considered: no driver would create the Jobs after `resume`.
    """
    assert run.cluster is not None
    objects = await list_run_objects(client, await client.discover_kueue(), run.cluster.namespace, run.name)
    writer = JobWriter(client, run.cluster.namespace)
    await writer.create_claim_templates(run)
    tracker = TaskTracker(run, folder, writes=False)
    for unit in run.units:
        tracker.collect_finished(unit)
        if not retry_failed:
            tracker.collect_failed(unit)
    intent = RunIntent(creates_jobs=True, retry_failed=retry_failed)
    actions = [_choose_action(intent, unit, run, tracker, objects.get(unit.name, UnitObjects())) for unit in run.units]
    replaced = {action.uid for action in actions if isinstance(action, DeleteJob)}
    existing = [unit.job for unit in objects.values() if unit.job is not None]
    await writer.delete_jobs([job for job in existing if job.metadata.uid in replaced], wait=True)
    created = [
        unit for unit, action in zip(run.units, actions, strict=True) if isinstance(action, CreateJob | DeleteJob)
    ]
    per_second = jobs.compute_creation_rate(len(created))
    for first in range(0, len(created), per_second):
        if first:
            await asyncio.sleep(1.0)
        await asyncio.gather(*(writer.create_job(unit, run) for unit in created[first : first + per_second]))
    return len(created)


def _choose_action(intent: RunIntent, unit: Unit, run: Run, tracker: TaskTracker, objects: UnitObjects) -> Action:
    """The first action for a unit: no status has lasted, and every ended Job had ended before."""
    status = derive_unit_status(objects)
    facts = UnitFacts(
        has_open_tasks=bool(tracker.open_tasks(unit)),
        phase=status.phase,
        ended_before_start=status.phase in ENDED_PHASES,
        has_damaged_transcript=status.phase == "succeeded" and tracker.has_damaged_transcript(unit),
        spec_hash=jobs.build_job(unit, run)["metadata"]["annotations"][jobs.HASH_ANNOTATION],
    )
    return next_action(derive_desired_state(intent, facts), ObservedState(objects, status))


def _claim_folder(folder: OutputFolder, clock: Clock, owns_folder: bool) -> None:
    """Refuses a folder with a living driver. Submitting again withdraws an earlier `cancel`."""
    if not owns_folder:
        raise ClusterError(
            f"{folder.root}: another driver controls this run", remedy="use `epp-batch watch` to follow it"
        )
    if control.read_control(folder).state == "cancelled":
        control.write_control(folder, control.RunControl(at=clock.wall()))


def _ignore_transcript(_task: Task, _result: TranscriptionResult) -> None:
    """Default of `on_transcript`."""
