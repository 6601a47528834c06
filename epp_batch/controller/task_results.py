"""Which tasks of a run are done, failed or open, by the output folder and by what ended Jobs left.

The folder decides: a transcript that is there is never made again, whatever the cluster has forgotten.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from epp_batch.controller import termination
from epp_batch.controller.unit_status import UnitObjects, UnitStatus
from epp_batch.errors import FolderError
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult, save_struct
from epp_batch.spec import Run, Task, Unit

TERMINATION_MESSAGE_GRACE_SECONDS = 5.0
"""A shared folder may show a file so long after the pod that wrote it has ended; then its note counts."""
RESULT_FILE_GRACE_SECONDS = 30.0
"""The same where there is no note either."""


class TaskResults(NamedTuple):
    """What came out of a unit's tasks."""

    done: list[tuple[Task, TranscriptionResult]]
    failed: list[tuple[Task, TaskFailure]]
    pending: bool = False
    """A file may still appear."""


class TaskTracker:
    """One run's tasks. Nothing raises for a folder that cannot be read at the moment.

    A pod's note stands for a transcript only while no worker's transcript was ever seen here: in a shared folder, what
    is missing is missing.
    """

    def __init__(self, run: Run, folder: OutputFolder, *, writes: bool = True) -> None:
        """Without `writes` another driver keeps the folder's failures and what pods noted."""
        self.done: dict[str, TranscriptionResult] = {}
        self.failed: dict[str, TaskFailure] = {}
        self.cancelled: set[str] = set()
        self._run, self._folder = run, folder
        self._folder_is_shared, self._writes_folder = False, writes

    def open_tasks(self, unit: Unit) -> list[Task]:
        """The unit's tasks without an end."""
        ended = (self.done, self.failed, self.cancelled)
        return [task for task in unit.tasks if not any(task.stem in stems for stems in ended)]

    def collect_finished(self, unit: Unit) -> list[tuple[Task, TranscriptionResult]]:
        """Tasks whose transcript has appeared since the last look."""
        found = []
        for task in self.open_tasks(unit):
            result = self._folder.find_finished_result(task, self._run.options)
            if result is not None:
                self.done[task.stem] = result
                self._folder_is_shared = self._folder_is_shared or bool(result.files)
                found.append((task, result))
        return found

    def last_finished_at(self, unit: Unit) -> float | None:
        """Wall second at which the last of its transcripts was written; None where nobody noted it."""
        return max((self.done[t.stem].finished for t in unit.tasks if t.stem in self.done), default=0.0) or None

    def collect_failed(self, unit: Unit, *, final: bool = False) -> list[tuple[Task, TaskFailure]]:
        """Tasks that fail whenever they are tried, as an earlier worker found; any failure where it is `final`."""
        found = []
        for task in self.open_tasks(unit):
            failure = self._recorded_failure(task)
            if failure is not None and (final or failure.permanent):
                self.failed[task.stem] = failure
                found.append((task, failure))
        return found

    def finalize_unit(
        self, unit: Unit, state: UnitStatus, facts: UnitObjects, now: float, waited: float
    ) -> TaskResults:
        """Ends every open task of a unit whose Job has ended `waited` seconds ago; wall second `now`."""
        done, failed = self.collect_finished(unit), []
        notes = termination.parse_termination_messages(facts.pods)
        waiting = False
        for task in self.open_tasks(unit):
            note = notes.get(task.key(self._run.options))
            if note is not None and not note.kind and self._folder_is_shared:
                note = None
            if note is not None and not note.kind:
                if waited >= TERMINATION_MESSAGE_GRACE_SECONDS:
                    done.append((task, self._record_message_result(task, note, facts)))
                else:
                    waiting = True
            elif state.phase == "succeeded" and waited < RESULT_FILE_GRACE_SECONDS:
                waiting = True
            else:
                failed.append((task, self._record_failure(task, self._explain_failure(task, note, state, facts, now))))
        return TaskResults(done, failed, waiting)

    def fail_unit(self, unit: Unit, state: UnitStatus, now: float) -> list[tuple[Task, TaskFailure]]:
        """Ends the open tasks of a unit that can never run."""
        options = self._run.options
        reasons = [
            (task, termination.explain_failure(task, task.key(options), state, UnitObjects(), now))
            for task in self.open_tasks(unit)
        ]
        return [(task, self._record_failure(task, failure)) for task, failure in reasons]

    def cancel_unit(self, unit: Unit) -> list[Task]:
        """Ends the open tasks of a unit that nobody wants any more."""
        tasks = self.open_tasks(unit)
        self.cancelled.update(task.stem for task in tasks)
        return tasks

    def _explain_failure(
        self, task: Task, note: termination.TaskTermination | None, state: UnitStatus, facts: UnitObjects, now: float
    ) -> TaskFailure:
        """The worker's own words if they are of its last attempt; else what the cluster says."""
        said = self._recorded_failure(task)
        began = facts.newest_pod.started_at if facts.newest_pod is not None else None
        if said is not None and (began is None or said.at >= began.timestamp()):
            return said
        if note is not None:
            return termination.failure_from_message(task, note)
        return termination.explain_failure(task, task.key(self._run.options), state, facts, now)

    def _recorded_failure(self, task: Task) -> TaskFailure | None:
        failure = self._folder.load_failure(task.stem)
        return failure if failure is not None and failure.key == task.key(self._run.options) else None

    def _record_failure(self, task: Task, failure: TaskFailure) -> TaskFailure:
        failure = msgspec.structs.replace(failure, source=task.recording.source)
        self.failed[task.stem] = failure
        with contextlib.suppress(FolderError, OSError):  # it is told anyway, and found again from the Job
            if self._writes_folder:
                save_struct(self._folder.path(task.stem, "failed.json"), failure)
        return failure

    def _record_message_result(
        self, task: Task, note: termination.TaskTermination, facts: UnitObjects
    ) -> TranscriptionResult:
        """A note's result, kept here since the worker's folder is elsewhere. Never replaces the worker's own file."""
        pod = facts.newest_pod
        result = termination.result_from_message(
            task, self._run.options, note, pod.spec.node_name if pod is not None else ""
        )
        if self._writes_folder:
            _write_if_absent(self._folder.path(task.stem, "done.json"), result)
        self.done[task.stem] = result
        return result


def _write_if_absent(path: Path, result: TranscriptionResult) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
