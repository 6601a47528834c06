"""Runs the units of a local run on worker processes; writes events to the journal and updates the progress view."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch import timeline
from epp_batch.errors import TaskError, TaskStage
from epp_batch.local.worker_process import WorkerDied, WorkerProcess
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
from epp_batch.progress_view import ProgressView, RunTracker
from epp_batch.spec import Run, Task, Unit, WorkOrder
from epp_batch.timeline import EventKind, Journal, TimelineEvent
from epp_batch.worker import outputs
from epp_batch.worker.failures import raise_as_task_error
from epp_batch.worker.messages import WorkerMessage

CONTENT_FAILURE_KINDS = frozenset({"corrupt", "silent"})
"""Failures of the content itself: the same bytes would fail again."""
VIEW_SECONDS = 1.0
"""Interval of status updates of the view."""


class LocalRunOutcome(msgspec.Struct, kw_only=True):
    """Counts and failures of a run's tasks."""

    done: int = 0
    skipped: int = 0
    """Tasks that an earlier run had finished."""
    failed: list[TaskFailure] = []
    stopped: bool = False
    """Whether the run was stopped; the same command resumes it."""


class WorkerPool:
    """Runs one run on the given workers; used once, on the event loop.

    `model_paths` are model folders by model name ("*": any other). `on_done` is called for every finished transcript,
    including those of earlier runs.
    """

    def __init__(
        self,
        run: Run,
        folder: OutputFolder,
        workers: Sequence[WorkerProcess],
        *,
        model_paths: Mapping[str, str],
        threads: int,
        retry_failed: bool,
        clock: Clock,
        journal: Journal,
        view: ProgressView,
        on_done: Callable[[Task, TranscriptionResult], None] = lambda task, result: None,
    ) -> None:
        self._run, self._folder, self._workers = run, folder, workers
        self._model_paths, self._threads, self._retry_failed = model_paths, threads, retry_failed
        self._clock, self._journal, self._view, self._on_done = clock, journal, view, on_done
        self._queue: list[tuple[Unit, list[Task]]] = []
        self._attempts: Counter[str] = Counter()
        self._tracker = RunTracker(run)
        self._outcome = LocalRunOutcome()
        self._journal_error: OSError | None = None

    async def transcribe(self, tasks: Tasks, stop: asyncio.Event) -> LocalRunOutcome:
        """Returns when every task has ended, or soon after `stop` is set; partial files keep what is transcribed.

        Raises OSError if the journal cannot be written.
        """
        self._replay_journal()
        self._enqueue_unfinished()
        self._tracker.reset_speed_baseline()
        background = [
            tasks.spawn("view", self._update_view()),
            tasks.spawn("stop", self._close_on_stop(stop)),
        ]
        try:
            drains = [tasks.spawn(worker.place, self._drain_queue(worker)) for worker in self._workers]
            await asyncio.gather(*drains)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*(worker.close() for worker in self._workers))
        if self._journal_error is not None:
            raise self._journal_error
        self._view.on_status(self._tracker.status(self._clock.wall()))
        return self._outcome

    def _replay_journal(self) -> None:
        """Restores attempt counters and progress from the events of earlier runs in this folder."""
        events = timeline.read_events(self._folder.events_file)
        self._attempts.update(event.unit for event in events if event.kind == "admitted")
        self._tracker.replay(events)

    def _enqueue_unfinished(self) -> None:
        """Queues each unit with the tasks that are neither finished nor failed permanently."""
        for unit in self._run.units:
            remaining = [task for task in unit.tasks if not self._reuse_outcome(task)]
            if remaining:
                self._queue.append((unit, remaining))
                self._record_event(unit, "created")

    def _reuse_outcome(self, task: Task) -> bool:
        """Takes over the result, or the content failure, of an earlier run; returns whether there was one."""
        options = self._run.options
        result = self._folder.find_finished_result(task, options)
        if result is not None:
            try:
                with raise_as_task_error(TaskStage.WRITE, task.recording.source):
                    outputs.link_further_names(self._folder, task, result)
            except TaskError as error:
                self._fail_task(task, error)
                return True
            self._outcome.skipped += 1
            self._tracker.record_result(task.stem, result)
            self._on_done(task, result)
            return True
        failure = self._folder.load_failure(task.stem)
        if failure is None or self._retry_failed:
            return False
        if failure.kind not in CONTENT_FAILURE_KINDS or failure.key != task.key(options):
            return False
        self._record_failure(task, failure)
        return True

    async def _drain_queue(self, worker: WorkerProcess) -> None:
        """Runs units until the queue is empty.

        An error of the journal empties the queue and is raised by `transcribe`.
        """
        try:
            while self._queue:
                unit, remaining = self._queue.pop(self._select_unit(worker.loaded_model))
                await self._run_unit(worker, unit, remaining)
        except OSError as error:
            self._journal_error = self._journal_error or error
            self._queue.clear()

    def _select_unit(self, model: str) -> int:
        """Index of the first unit whose model the worker has loaded, else of the first unit."""
        return next((index for index, (unit, _) in enumerate(self._queue) if unit.model == model), 0)

    async def _run_unit(self, worker: WorkerProcess, unit: Unit, remaining: list[Task]) -> None:
        self._attempts[unit.name] += 1
        self._record_event(unit, "admitted", worker.place)
        self._record_event(unit, "running", worker.place)
        keys = {task.key(self._run.options) for task in remaining}
        while remaining and not self._outcome.stopped:
            try:
                async with contextlib.aclosing(worker.run_order(self._build_work_order(unit, remaining))) as messages:
                    async for message in messages:
                        self._handle_message(unit, remaining, message)
            except WorkerDied as died:
                if not self._outcome.stopped:
                    task = remaining.pop(0)
                    source = task.recording.source
                    self._fail_task(task, TaskError(died.kind, TaskStage.TRANSCRIBE, source, died.message), unit)
        if remaining:
            self._record_event(unit, "cancelled", worker.place, detail="stopped")
        else:
            failed = any(failure.key in keys for failure in self._outcome.failed)
            self._record_event(unit, "failed" if failed else "finished", worker.place)

    def _build_work_order(self, unit: Unit, remaining: list[Task]) -> WorkOrder:
        return WorkOrder(
            run=self._run.name,
            unit=unit.name,
            output=self._run.output,
            options=self._run.options,
            tasks=tuple(remaining),
            model_path=self._model_paths.get(unit.model) or self._model_paths.get("*"),
            fetch_model=self._run.fetch_model,
            max_seconds=self._run.max_seconds,
            threads=self._threads,
        )

    def _handle_message(self, unit: Unit, remaining: list[Task], message: WorkerMessage) -> None:
        """Applies a message about the first of the remaining tasks; removes the task when it has ended."""
        task = remaining[0]
        if message.progress is not None:
            ended = sum(self._task_seconds(other) for other in unit.tasks if other not in remaining)
            self._tracker.record_progress(unit.name, ended + message.progress)
            self._view.on_progress(unit.name, ended + message.progress)
        elif message.result is not None:
            remaining.pop(0)
            self._outcome.done += 1
            self._tracker.record_result(task.stem, message.result)
            self._record_task_event(unit, task, "finished")
            self._on_done(task, message.result)
        elif message.failure is not None and not (self._outcome.stopped and message.failure.kind == "stopped"):
            remaining.pop(0)
            self._record_failure(task, message.failure)
            self._record_task_event(unit, task, "failed", message.failure.message)

    def _task_seconds(self, task: Task) -> float:
        result = self._folder.load_result(task.stem)
        return result.audio_seconds if result is not None else task.recording.seconds or 0.0

    def _fail_task(self, task: Task, error: TaskError, unit: Unit | None = None) -> None:
        """Writes and records a failure that no worker could write itself."""
        key = task.key(self._run.options)
        self._record_failure(task, outputs.write_failure(self._folder, task, error, key, self._clock.wall()))
        if unit is not None:
            self._record_task_event(unit, task, "failed", error.message)

    def _record_failure(self, task: Task, failure: TaskFailure) -> None:
        self._outcome.failed.append(failure)
        self._tracker.record_failure(task.stem)
        self._view.on_failure(failure)

    def _record_task_event(self, unit: Unit, task: Task, kind: EventKind, detail: str = "") -> None:
        """Records the end of one task, if its unit has several."""
        if len(unit.tasks) > 1:
            self._record_event(unit, kind, stem=task.stem, detail=detail)

    def _record_event(self, unit: Unit, kind: EventKind, place: str = "", *, stem: str = "", detail: str = "") -> None:
        event = TimelineEvent(
            at=self._clock.wall(),
            unit=unit.name,
            kind=kind,
            place=place,
            detail=detail,
            stem=stem,
            attempt=self._attempts[unit.name],
        )
        self._journal.append(event)
        self._tracker.apply_event(event)
        self._view.on_event(event)

    async def _update_view(self) -> None:
        while True:
            self._view.on_status(self._tracker.status(self._clock.wall()))
            await asyncio.sleep(VIEW_SECONDS)

    async def _close_on_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._outcome.stopped = True
        self._queue.clear()
        await asyncio.gather(*(worker.close() for worker in self._workers))
