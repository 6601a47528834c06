"""Which tasks of a run are done, failed or open, by the output folder and by what ended Jobs left.

The folder decides: a transcript that is there is never made again, whatever the cluster has forgotten.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from epp_batch.controller import termination
from epp_batch.controller.unit_status import Facts, State
from epp_batch.errors import FolderError
from epp_batch.output_folder import Failure, Folder, Result, save
from epp_batch.spec import Run, Task, Unit

NOTE_GRACE_SECONDS = 5.0
"""A shared folder may show a file so long after the pod that wrote it has ended; then its note counts."""
FILE_GRACE_SECONDS = 30.0
"""The same where there is no note either."""


class Settled(NamedTuple):
    """What came out of a unit's tasks."""

    done: list[tuple[Task, Result]]
    failed: list[tuple[Task, Failure]]
    waiting: bool = False
    """A file may still appear."""


class Books:
    """One run's tasks. Nothing raises for a folder that cannot be read at the moment.

    A pod's note stands for a transcript only while no worker's transcript was ever seen here: in a shared folder, what
    is missing is missing.
    """

    def __init__(self, run: Run, folder: Folder, *, writes: bool = True) -> None:
        """Without `writes` another driver keeps the folder's failures and what pods noted."""
        self.done: dict[str, Result] = {}
        self.failed: dict[str, Failure] = {}
        self.cancelled: set[str] = set()
        self._run, self._folder = run, folder
        self._shared, self._writes = False, writes

    def open(self, unit: Unit) -> list[Task]:
        """The unit's tasks without an end."""
        ended = (self.done, self.failed, self.cancelled)
        return [task for task in unit.tasks if not any(task.stem in stems for stems in ended)]

    def finished(self, unit: Unit) -> list[tuple[Task, Result]]:
        """Tasks whose transcript has appeared since the last look."""
        found = []
        for task in self.open(unit):
            result = self._folder.finished(task, self._run.options)
            if result is not None:
                self.done[task.stem] = result
                self._shared = self._shared or bool(result.files)
                found.append((task, result))
        return found

    def finished_at(self, unit: Unit) -> float | None:
        """Wall second at which the last of its transcripts was written; None where nobody noted it."""
        return max((self.done[t.stem].finished for t in unit.tasks if t.stem in self.done), default=0.0) or None

    def failed_before(self, unit: Unit, *, final: bool = False) -> list[tuple[Task, Failure]]:
        """Tasks that fail whenever they are tried, as an earlier worker found; any failure where it is `final`."""
        found = []
        for task in self.open(unit):
            failure = self._failure(task)
            if failure is not None and (final or failure.permanent):
                self.failed[task.stem] = failure
                found.append((task, failure))
        return found

    def settle(self, unit: Unit, state: State, facts: Facts, now: float, waited: float) -> Settled:
        """Ends every open task of a unit whose Job has ended `waited` seconds ago; wall second `now`."""
        done, failed = self.finished(unit), []
        notes = termination.notes(facts.pods)
        waiting = False
        for task in self.open(unit):
            note = notes.get(task.key(self._run.options))
            if note is not None and not note.kind and self._shared:
                note = None
            if note is not None and not note.kind:
                if waited >= NOTE_GRACE_SECONDS:
                    done.append((task, self._take(task, note, facts)))
                else:
                    waiting = True
            elif state.phase == "succeeded" and waited < FILE_GRACE_SECONDS:
                waiting = True
            else:
                failed.append((task, self._fail(task, self._why(task, note, state, facts, now))))
        return Settled(done, failed, waiting)

    def refuse(self, unit: Unit, state: State, now: float) -> list[tuple[Task, Failure]]:
        """Ends the open tasks of a unit that can never run."""
        options = self._run.options
        reasons = [
            (task, termination.explain(task, task.key(options), state, Facts(), now)) for task in self.open(unit)
        ]
        return [(task, self._fail(task, failure)) for task, failure in reasons]

    def cancel(self, unit: Unit) -> list[Task]:
        """Ends the open tasks of a unit that nobody wants any more."""
        tasks = self.open(unit)
        self.cancelled.update(task.stem for task in tasks)
        return tasks

    def _why(self, task: Task, note: termination.Entry | None, state: State, facts: Facts, now: float) -> Failure:
        """The worker's own words if they are of its last attempt; else what the cluster says."""
        said = self._failure(task)
        began = facts.pod.ran if facts.pod is not None else None
        if said is not None and (began is None or said.at >= began.timestamp()):
            return said
        if note is not None:
            return termination.of_note(task, note)
        return termination.explain(task, task.key(self._run.options), state, facts, now)

    def _failure(self, task: Task) -> Failure | None:
        failure = self._folder.failure(task.stem)
        return failure if failure is not None and failure.key == task.key(self._run.options) else None

    def _fail(self, task: Task, failure: Failure) -> Failure:
        failure = msgspec.structs.replace(failure, source=task.recording.source)
        self.failed[task.stem] = failure
        with contextlib.suppress(FolderError, OSError):  # it is told anyway, and found again from the Job
            if self._writes:
                save(self._folder.path(task.stem, "failed.json"), failure)
        return failure

    def _take(self, task: Task, note: termination.Entry, facts: Facts) -> Result:
        """A note's result, kept here since the worker's folder is elsewhere. Never replaces the worker's own file."""
        pod = facts.pod
        result = termination.result(task, self._run.options, note, pod.spec.node_name if pod is not None else "")
        if self._writes:
            _write_new(self._folder.path(task.stem, "done.json"), result)
        self.done[task.stem] = result
        return result


def _write_new(path: Path, result: Result) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
