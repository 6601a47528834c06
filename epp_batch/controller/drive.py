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
from epp_batch.controller.controller import Driver
from epp_batch.controller.event_recorder import OnDone, Teller
from epp_batch.errors import ClusterError, InputError
from epp_batch.kube.client import Client
from epp_batch.output_folder import Failure, Folder, Result
from epp_batch.progress_view import View
from epp_batch.spec import Run, Task
from epp_batch.timeline import Journal


class Outcome(NamedTuple):
    """How a run ended."""

    done: dict[str, Result]
    """By stem; also what was there before."""
    failed: list[Failure]
    cancelled: list[str]
    """Sources."""

    @property
    def code(self) -> int:
        """The command's exit code."""
        return 1 if self.failed or self.cancelled else 0


async def drive(
    run: Run,
    folder: Folder,
    *,
    connection: Client,
    clock: Clock,
    tasks: Tasks,
    view: View,
    on_done: OnDone | None = None,
    create: bool = True,
    retry_failed: bool = False,
    dice: random.Random | None = None,
) -> Outcome:
    """Until every recording has an end; `on_done` gets each transcript, those that were there before at once.

    With `create`, Jobs that are missing are made, and no other driver may be there: ClusterError if one is. Without,
    it takes in what ends if no other driver is there, and else looks on. `retry_failed` makes Jobs anew that have
    failed. Raises ClusterError for refusals that time does not heal; an outage is waited out and shown.
    """
    if run.cluster is None:
        raise InputError(f"run {run.name} is not for a cluster", remedy="go on with `epp-batch transcribe`")
    with control.lock(folder) as alone:
        if create:
            _claim(folder, clock, alone)
        journal = Journal(folder.events_file) if alone else None
        teller = Teller(run, folder, journal, view, on_done or _nobody)
        driver = Driver(run, folder, connection, clock, view, teller, alone=alone)
        try:
            await driver.run(tasks, dice or random.Random(), create=create, retry=retry_failed)
        finally:
            await driver.close()
            if journal is not None:
                journal.close()
    books = driver.books
    cancelled = [task.recording.source for task in run.tasks() if task.stem in books.cancelled]
    return Outcome(books.done, list(books.failed.values()), cancelled)


def _claim(folder: Folder, clock: Clock, alone: bool) -> None:
    """Takes the folder; what was cancelled before is wanted again."""
    if not alone:
        raise ClusterError(f"{folder.root}: another driver is at work", remedy="look on with `epp-batch watch`")
    if control.read(folder).state == "cancelled":
        control.write(folder, control.Control(at=clock.wall()))


def _nobody(_task: Task, _result: Result) -> None:
    """Nobody waits for transcripts."""
