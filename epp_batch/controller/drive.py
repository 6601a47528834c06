"""Drives a run on a cluster to its end: what is missing is made, what happens is told, what ends is taken in.

Jobs go on without a driver, and any number of drivers may die: the next one finds everything in the output folder, the
journal and the cluster.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.controller import control
from epp_batch.controller.controller import RunController
from epp_batch.controller.event_recorder import EventRecorder, OnTranscript
from epp_batch.errors import ClusterError, InputError
from epp_batch.kube.client import ApiClient
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
from epp_batch.progress_view import ProgressView
from epp_batch.spec import Run, Task
from epp_batch.timeline import Journal


class RunOutcome(NamedTuple):
    """How a run ended."""

    done: dict[str, TranscriptionResult]
    """By stem; also what was there before."""
    failed: list[TaskFailure]
    cancelled: list[str]
    """Sources."""

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        return 1 if self.failed or self.cancelled else 0


async def drive_run(
    run: Run,
    folder: OutputFolder,
    *,
    connection: ApiClient,
    clock: Clock,
    tasks: Tasks,
    view: ProgressView,
    on_done: OnTranscript | None = None,
    create: bool = True,
    retry_failed: bool = False,
    dice: random.Random | None = None,
) -> RunOutcome:
    """Until every recording has an end; `on_done` gets each transcript, those that were there before at once.

    With `create`, Jobs that are missing are made, and no other driver may be there: ClusterError if one is. Without,
    it takes in what ends if no other driver is there, and else looks on. `retry_failed` makes Jobs anew that have
    failed. Raises ClusterError for refusals that time does not heal; an outage is waited out and shown.
    """
    if run.cluster is None:
        raise InputError(f"run {run.name} is not for a cluster", remedy="go on with `epp-batch transcribe`")
    with control.lock_folder(folder) as alone:
        if create:
            _claim_folder(folder, clock, alone)
        journal = Journal(folder.events_file) if alone else None
        teller = EventRecorder(run, folder, journal, view, on_done or _ignore_transcript)
        driver = RunController(run, folder, connection, clock, view, teller, alone=alone)
        try:
            await driver.run(tasks, dice or random.Random(), create=create, retry=retry_failed)
        finally:
            await driver.close()
            if journal is not None:
                journal.close()
    books = driver.task_tracker
    cancelled = [task.recording.source for task in run.list_tasks() if task.stem in books.cancelled]
    return RunOutcome(books.done, list(books.failed.values()), cancelled)


def _claim_folder(folder: OutputFolder, clock: Clock, alone: bool) -> None:
    """Takes the folder; what was cancelled before is wanted again."""
    if not alone:
        raise ClusterError(f"{folder.root}: another driver is at work", remedy="look on with `epp-batch watch`")
    if control.read_control(folder).state == "cancelled":
        control.write_control(folder, control.RunControl(at=clock.wall()))


def _ignore_transcript(_task: Task, _result: TranscriptionResult) -> None:
    """Nobody waits for transcripts."""
