"""Which tasks of a run are done, failed, cancelled or open, from the output folder and from ended Jobs.

The output folder decides: a task whose transcript is there is done, whatever the cluster still knows of it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from epp_batch.controller import termination
from epp_batch.controller.unit_status import UnitObjects, UnitStatus, worker_state
from epp_batch.errors import FolderError
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult, save_struct
from epp_batch.spec import Run, Task, Unit

TERMINATION_MESSAGE_GRACE_SECONDS = 5.0
"""A network file system may show a file this long after the pod that wrote it has ended. After that, the pod's
termination message is taken as the result."""
RESULT_FILE_GRACE_SECONDS = 30.0
"""The same if there is no termination message: after that, the transcript is missing."""


class TaskResults(NamedTuple):
    """Outcome of a unit's tasks."""

    done: list[tuple[Task, TranscriptionResult]]
    failed: list[tuple[Task, TaskFailure]]


class TaskTracker:
    """Outcomes of one run's tasks, by stem. A folder that cannot be read or written at the moment raises no error.

    A termination message proves success only if workers do not share our output folder, that is, while no transcript
    of a worker has appeared here. In a shared folder a missing file is a missing transcript.
    """

    def __init__(self, run: Run, folder: OutputFolder, *, writes: bool = True) -> None:
        """Without `writes`, failures and results from termination messages are not saved: another driver does it."""
        self.done: dict[str, TranscriptionResult] = {}
        self.failed: dict[str, TaskFailure] = {}
        self.cancelled: set[str] = set()
        self._run, self._folder = run, folder
        self._folder_is_shared, self._writes_folder = False, writes

    def open_tasks(self, unit: Unit) -> list[Task]:
        """Tasks of the unit that are neither done nor failed nor cancelled."""
        ended = (self.done, self.failed, self.cancelled)
        return [task for task in unit.tasks if not any(task.stem in stems for stems in ended)]

    def collect_finished(self, unit: Unit) -> list[tuple[Task, TranscriptionResult]]:
        """Open tasks whose transcript is in the folder now; they are done from now on."""
        finished = []
        for task in self.open_tasks(unit):
            result = self._folder.find_finished_result(task, self._run.options)
            if result is not None:
                self.done[task.stem] = result
                self._folder_is_shared = self._folder_is_shared or bool(result.files)
                finished.append((task, result))
        return finished

    def last_finished_at(self, unit: Unit) -> float | None:
        """Wall second at which the last of the unit's transcripts was written; None if no result has a time."""
        return max((self.done[t.stem].finished for t in unit.tasks if t.stem in self.done), default=0.0) or None

    def collect_failed(self, unit: Unit, *, final: bool = False) -> list[tuple[Task, TaskFailure]]:
        """Open tasks with a permanent failure in the folder, or any failure if `final`; failed from now on."""
        failed = []
        for task in self.open_tasks(unit):
            failure = self._recorded_failure(task)
            if failure is not None and (final or failure.permanent):
                self.failed[task.stem] = failure
                failed.append((task, failure))
        return failed

    def has_damaged_transcript(self, unit: Unit) -> bool:
        """Whether an open task has a result in the folder, but not all of the files that it lists."""
        results = ((task, self._folder.load_result(task.stem)) for task in self.open_tasks(unit))
        return any(result is not None and result.key == task.key(self._run.options) for task, result in results)

    def finalize_unit(
        self, unit: Unit, status: UnitStatus, objects: UnitObjects, now: float, seconds_since_end: float
    ) -> TaskResults:
        """Ends every open task of a unit whose Job has ended, except those whose transcript may still appear.

        Sources in order of precedence: the transcript in the folder; the termination message, if it reports success
        and the folder is not shared; the worker's failure file; the termination message's failure; the API objects.
        Call again while tasks are open: whether a transcript may still appear depends on `seconds_since_end`.
        """
        done, failed = self.collect_finished(unit), []
        entries = termination.parse_termination_messages(objects.pods)
        for task in self.open_tasks(unit):
            entry = entries.get(task.key(self._run.options))
            if entry is not None and not entry.kind and self._folder_is_shared:
                entry = None
            if entry is not None and not entry.kind:
                if seconds_since_end >= TERMINATION_MESSAGE_GRACE_SECONDS:
                    done.append((task, self._record_message_result(task, entry, objects)))
            # A failed Job is not waited for: its worker has left a failure, or neither file nor message.
            elif status.phase != "succeeded" or seconds_since_end >= RESULT_FILE_GRACE_SECONDS:
                failure = self._explain_failure(task, entry, status, objects, now)
                failed.append((task, self._record_failure(task, failure)))
        return TaskResults(done, failed)

    def fail_unit(self, unit: Unit, status: UnitStatus, now: float) -> list[tuple[Task, TaskFailure]]:
        """Fails the open tasks of a unit that can never run."""
        options, objects = self._run.options, UnitObjects()
        failures = [
            (task, termination.explain_failure(task, task.key(options), status, objects, now))
            for task in self.open_tasks(unit)
        ]
        return [(task, self._record_failure(task, failure)) for task, failure in failures]

    def cancel_unit(self, unit: Unit) -> list[Task]:
        """Cancels the open tasks of a unit whose Job was deleted or will not be created."""
        tasks = self.open_tasks(unit)
        self.cancelled.update(task.stem for task in tasks)
        return tasks

    def _explain_failure(
        self,
        task: Task,
        entry: termination.TaskTermination | None,
        status: UnitStatus,
        objects: UnitObjects,
        now: float,
    ) -> TaskFailure:
        """The worker's own failure if it is of its last attempt, else what the cluster knows."""
        recorded = self._recorded_failure(task)
        pod = objects.newest_pod
        started_at = worker_state(pod).started_at if pod is not None else None
        if recorded is not None and (started_at is None or recorded.at >= started_at.timestamp()):
            return recorded
        if entry is not None:
            return termination.failure_from_message(task, entry)
        return termination.explain_failure(task, task.key(self._run.options), status, objects, now)

    def _recorded_failure(self, task: Task) -> TaskFailure | None:
        failure = self._folder.load_failure(task.stem)
        return failure if failure is not None and failure.key == task.key(self._run.options) else None

    def _record_failure(self, task: Task, failure: TaskFailure) -> TaskFailure:
        failure = msgspec.structs.replace(failure, source=task.recording.source)
        self.failed[task.stem] = failure
        # The failure is shown to the user anyway, and the next driver derives it again from the Job.
        with contextlib.suppress(FolderError, OSError):
            if self._writes_folder:
                save_struct(self._folder.path(task.stem, "failed.json"), failure)
        return failure

    def _record_message_result(
        self, task: Task, entry: termination.TaskTermination, objects: UnitObjects
    ) -> TranscriptionResult:
        """The result of a termination message, saved here because the worker's folder is another one."""
        pod = objects.newest_pod
        node = pod.spec.node_name if pod is not None else ""
        result = termination.result_from_message(task, self._run.options, entry, node)
        if self._writes_folder:
            _write_if_absent(self._folder.path(task.stem, "done.json"), result)
        self.done[task.stem] = result
        return result


def _write_if_absent(path: Path, result: TranscriptionResult) -> None:
    """Never replaces a file: it may be a worker's, or a damaged one that a person should see."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
