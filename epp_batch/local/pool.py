"""The pump of a local run: units to worker processes; what they say to the journal and to whoever looks on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch import timeline
from epp_batch.errors import Stage, WorkError
from epp_batch.local.worker_process import Died, Worker
from epp_batch.output_folder import Failure, Folder, Result
from epp_batch.progress_view import Tracker, View
from epp_batch.spec import Order, Run, Task, Unit
from epp_batch.timeline import Event, EventKind, Journal
from epp_batch.worker import outputs
from epp_batch.worker.failures import at
from epp_batch.worker.lines import Line

FOR_GOOD = frozenset({"corrupt", "silent"})
"""Failures that lie in the content: the same bytes fail again."""
TICK = 1.0
"""Seconds between two looks at the whole."""


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a run's tasks."""

    done: int = 0
    skipped: int = 0
    """Finished before."""
    failed: list[Failure] = []
    stopped: bool = False
    """Somebody ended it; what is missing is done by the same command."""


class Pool:
    """Does one run with these workers.

    `paths` are model folders by model ("*" for the others), `on_done` hears of every transcript that is there, the ones
    of earlier runs too.
    """

    def __init__(
        self,
        run: Run,
        folder: Folder,
        workers: Sequence[Worker],
        *,
        paths: Mapping[str, str],
        threads: int,
        retry_failed: bool,
        clock: Clock,
        journal: Journal,
        view: View,
        on_done: Callable[[Task, Result], None] = lambda task, result: None,
    ) -> None:
        self._run, self._folder, self._workers = run, folder, workers
        self._paths, self._threads, self._retry_failed = paths, threads, retry_failed
        self._clock, self._journal, self._view, self._on_done = clock, journal, view, on_done
        self._queue: list[tuple[Unit, list[Task]]] = []
        self._attempts: Counter[str] = Counter()
        self._tracker = Tracker(run)
        self._outcome = Outcome()
        self._broken: OSError | None = None

    async def transcribe(self, tasks: Tasks, stop: asyncio.Event) -> Outcome:
        """Returns when every task has come to its end, or soon after `stop`, with all that was done kept."""
        self._look_back()
        self._sort_out()
        self._tracker.started()
        ticking = tasks.spawn("tick", self._tick())
        stopping = tasks.spawn("stop", self._stop(stop))
        try:
            drains = [tasks.spawn(worker.place, self._drain(worker)) for worker in self._workers]
            await asyncio.gather(*drains)
        finally:
            for task in (ticking, stopping):
                task.cancel()
            await asyncio.gather(*(worker.close() for worker in self._workers))
        if self._broken is not None:
            raise self._broken
        self._view.tick(self._tracker.look(self._clock.wall()))
        return self._outcome

    def _look_back(self) -> None:
        events = timeline.read(self._folder.events_file)
        self._attempts.update(event.unit for event in events if event.kind == "admitted")
        self._tracker.replay(events)

    def _sort_out(self) -> None:
        """What is finished, what failed for good, and what there is to do."""
        for unit in self._run.units:
            todo = [task for task in unit.tasks if not self._settled(task)]
            if todo:
                self._queue.append((unit, todo))
                self._event(unit, "created")

    def _settled(self, task: Task) -> bool:
        options = self._run.options
        result = self._folder.finished(task, options)
        if result is not None:
            try:
                with at(Stage.WRITE, task.recording.source):
                    outputs.spread(self._folder, task, result)
            except WorkError as error:
                self._failed(task, error)
                return True
            self._outcome.skipped += 1
            self._tracker.done(task.stem, result)
            self._on_done(task, result)
            return True
        failure = self._folder.failure(task.stem)
        same = failure is not None and failure.kind in FOR_GOOD and failure.key == task.key(options)
        if failure is None or not same or self._retry_failed:
            return False
        self._tell(task, failure)
        return True

    async def _drain(self, worker: Worker) -> None:
        """Units until there are none; a journal that cannot be written ends the run, not with a traceback."""
        try:
            while self._queue:
                unit, todo = self._queue.pop(self._choose(worker.model))
                await self._do(worker, unit, todo)
        except OSError as error:
            self._broken = self._broken or error
            self._queue.clear()

    def _choose(self, model: str) -> int:
        """The first unit of the model that the worker has loaded, else the first."""
        return next((place for place, (unit, _) in enumerate(self._queue) if unit.model == model), 0)

    async def _do(self, worker: Worker, unit: Unit, todo: list[Task]) -> None:
        self._attempts[unit.name] += 1
        self._event(unit, "admitted", worker.place)
        self._event(unit, "running", worker.place)
        keys = {task.key(self._run.options) for task in todo}
        while todo and not self._outcome.stopped:
            try:
                async with contextlib.aclosing(worker.lines(self._order(unit, todo))) as lines:
                    async for line in lines:
                        self._hear(unit, todo, line)
            except Died as died:
                if not self._outcome.stopped:
                    task = todo.pop(0)
                    self._failed(
                        task, WorkError(died.kind, Stage.TRANSCRIBE, task.recording.source, died.message), unit
                    )
        if todo:
            self._event(unit, "cancelled", worker.place, detail="stopped")
        else:
            failed = any(failure.key in keys for failure in self._outcome.failed)
            self._event(unit, "failed" if failed else "finished", worker.place)

    def _order(self, unit: Unit, todo: list[Task]) -> Order:
        return Order(
            run=self._run.name,
            unit=unit.name,
            output=self._run.output,
            options=self._run.options,
            tasks=tuple(todo),
            model_path=self._paths.get(unit.model) or self._paths.get("*"),
            fetch_model=self._run.fetch_model,
            max_seconds=self._run.max_seconds,
            threads=self._threads,
        )

    def _hear(self, unit: Unit, todo: list[Task], line: Line) -> None:
        task = todo[0]
        if line.progress is not None:
            ended = sum(self._seconds(other) for other in unit.tasks if other not in todo)
            self._tracker.progress(unit.name, ended + line.progress)
            self._view.progress(unit.name, ended + line.progress)
        elif line.result is not None:
            todo.pop(0)
            self._outcome.done += 1
            self._tracker.done(task.stem, line.result)
            self._event_of(unit, task, "finished")
            self._on_done(task, line.result)
        elif line.failure is not None and not (self._outcome.stopped and line.failure.kind == "stopped"):
            todo.pop(0)
            self._tell(task, line.failure)
            self._event_of(unit, task, "failed", line.failure.message)

    def _seconds(self, task: Task) -> float:
        result = self._folder.result(task.stem)
        return result.audio_seconds if result is not None else task.recording.seconds or 0.0

    def _failed(self, task: Task, error: WorkError, unit: Unit | None = None) -> None:
        """A failure that no worker could write down."""
        key = task.key(self._run.options)
        self._tell(task, outputs.note_failure(self._folder, task, error, key, self._clock.wall()))
        if unit is not None:
            self._event_of(unit, task, "failed", error.message)

    def _tell(self, task: Task, failure: Failure) -> None:
        self._outcome.failed.append(failure)
        self._tracker.failed(task.stem)
        self._view.failure(failure)

    def _event_of(self, unit: Unit, task: Task, kind: EventKind, detail: str = "") -> None:
        """One task's end, where its unit has several."""
        if len(unit.tasks) > 1:
            self._event(unit, kind, stem=task.stem, detail=detail)

    def _event(self, unit: Unit, kind: EventKind, place: str = "", *, stem: str = "", detail: str = "") -> None:
        event = Event(
            at=self._clock.wall(),
            unit=unit.name,
            kind=kind,
            place=place,
            detail=detail,
            stem=stem,
            attempt=self._attempts[unit.name],
        )
        self._journal.write(event)
        self._tracker.apply(event)
        self._view.event(event)

    async def _tick(self) -> None:
        while True:
            self._view.tick(self._tracker.look(self._clock.wall()))
            await asyncio.sleep(TICK)

    async def _stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._outcome.stopped = True
        self._queue.clear()
        await asyncio.gather(*(worker.close() for worker in self._workers))
