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
from epp_batch.controller.event_recorder import Teller
from epp_batch.controller.job_writer import Deed, Hands
from epp_batch.controller.queue_positions import positions
from epp_batch.controller.run_informer import Observer
from epp_batch.controller.task_results import FILE_GRACE_SECONDS, Books
from epp_batch.controller.unit_status import Facts, State, state
from epp_batch.controller.worker_progress import Progress
from epp_batch.errors import ClusterError, Unreachable
from epp_batch.kube.client import Client
from epp_batch.kube.resources import Kueue
from epp_batch.output_folder import Folder
from epp_batch.progress_view import View
from epp_batch.spec import Run, Unit

TICK_SECONDS = 1.0
SLOW_SECONDS = 5.0
"""Between two looks at progress, at files of shards and at the queue."""
LOOKS = 64
"""At progress at a time, of however many that run."""
LONGEST_PAUSE = 10.0
TELLING_SECONDS = 10.0
"""How long to wait for a cluster that has only to tell how finished work came about."""


class Driver:
    """One run in this process."""

    def __init__(
        self, run: Run, folder: Folder, client: Client, clock: Clock, view: View, teller: Teller, *, alone: bool
    ) -> None:
        """`alone`: no other driver is there, which would make what is missing and keep the folder."""
        assert run.cluster is not None
        self.books = Books(run, folder, writes=alone)
        self._run, self._folder, self._client, self._clock, self._view = run, folder, client, clock, view
        self._cluster, self._teller = run.cluster, teller
        self._units = {unit.name: unit for unit in run.units}
        self._observer = Observer(self._units)
        self._states: dict[str, tuple[State, float]] = {}
        self._order = {name: index for index, name in enumerate(self._units)}
        self._open = set(self._units)
        self._spawned: list[asyncio.Task[Any]] = []
        self._again: set[str] = set()
        self._before_us: dict[str, str] = {}
        self._position: int | None = None
        self._held: control.State = "go"
        self._tick_at = float("-inf")
        self._alone, self._create, self._retry_failed = alone, False, False

    async def run(self, tasks: Tasks, dice: random.Random, *, create: bool, retry: bool) -> None:
        """Until every task has an end."""
        self._create, self._retry_failed = create, retry
        self._before()
        if any(self.books.open(self._units[name]) for name in self._open):
            await self._follow(tasks, dice)
        elif self._open:
            with contextlib.suppress(ClusterError, TimeoutError):
                async with asyncio.timeout(TELLING_SECONDS):
                    await self._follow(tasks, dice)
            for name in sorted(self._open):
                self._end(self._units[name], Facts(), self._clock.wall(), at=self.books.finished_at(self._units[name]))
        self._tick(self._clock.wall())

    async def _follow(self, tasks: Tasks, dice: random.Random) -> None:
        kueue = await self._reached()
        self._hands = Hands(self._client, kueue, self._run, self._observer, tasks, self._clock)
        self._spawned += self._observer.follow(
            self._client, kueue, self._cluster.namespace, self._run.name, tasks, dice
        )
        await self._synced()
        self._spawned.append(tasks.keep("slow", lambda: self._slow(kueue, dice)))
        try:
            await self._rounds()
        finally:
            await self._hands.close()

    async def close(self) -> None:
        """Ends what `run` started."""
        for task in self._spawned:
            task.cancel()
        await asyncio.gather(*self._spawned, return_exceptions=True)

    # -- before -------------------------------------------------------------------------------------------------

    def _before(self) -> None:
        """What the folder and the journal know without the cluster."""
        self._held = control.read(self._folder).state
        for unit in self._run.units:
            for task, result in self.books.finished(unit):
                self._teller.done(task, result)
            if not self._retry_failed:
                for task, failure in self.books.failed_before(unit):
                    self._teller.failed(task, failure)
            if not self.books.open(unit) and not self._untold(unit.name):
                self._open.discard(unit.name)
        self._teller.tracker.started()

    def _untold(self, name: str) -> bool:
        """Whether the journal has a beginning of it, and no end: its Job may still be there to tell."""
        chronicle = self._teller.chronicle
        return chronicle.knows(name) and not chronicle.ended(name)

    async def _reached(self) -> Kueue:
        """Waits for an API server that is away just now; makes what Jobs name."""
        pause = TICK_SECONDS
        while True:
            try:
                kueue = await self._client.kueue()
                if self._create:
                    await Hands.templates(self._client, self._run)
                self._observer.troubles.pop("server", None)
                return kueue
            except Unreachable as error:
                self._observer.troubles["server"] = str(error)
            self._tick(self._clock.wall())
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _synced(self) -> None:
        """Until everything was listed once; only then is what is missing really missing."""
        while not await self._observer.synced(TICK_SECONDS):
            self._tick(self._clock.wall())
        self._observer.dirty |= self._open

    # -- rounds -------------------------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        while True:
            self._observer.check()
            self._hands.check()
            now = self._clock.wall()
            for name in self._take_dirty():
                self._look(self._units[name], now)
            if not self._open and not self._hands.busy:
                return
            if now - self._tick_at >= TICK_SECONDS:
                held = self._held
                self._tick(now)
                self._observer.dirty |= self._again if self._held == held else self._open
            await self._observer.changed(TICK_SECONDS)

    def _take_dirty(self) -> list[str]:
        """What changed, in order of submission."""
        dirty, self._observer.dirty = self._observer.dirty, set()
        return sorted(dirty, key=self._order.__getitem__)

    def _look(self, unit: Unit, now: float) -> None:
        """One unit: tell, decide, do."""
        name = unit.name
        facts = self._observer.facts(name)
        self._teller.news(name, facts, now)
        if name not in self._open:
            return
        at = state(facts)
        waited = self._remember(name, at, now)
        if at.phase in ("absent", "running", "succeeded", "failed"):
            self._finished(unit, facts, now)
        act = reconcile.action(self._want(unit, facts, at, waited), facts)
        match act:
            case reconcile.Settle():
                self._settle(unit, at, facts, now, waited)
            case reconcile.Cancelled():
                self._cancel(unit, facts, now)
            case reconcile.GiveUp():
                self._give_up(unit, at, facts, now)
            case reconcile.Hold() if control.read(self._folder).state != "paused":
                act = None  # resumed since the last tick
        if name in self._hands.refused:
            self._give_up(unit, State("queued", "Refused", self._hands.refused[name]), facts, now)
        elif self._create and isinstance(act, Deed):
            self._hands.do(unit, act)
        if not self.books.open(unit) and at.phase not in ("running", "admitted"):
            self._open.discard(name)
            self._again.discard(name)
            self._end(unit, facts, now, at=None if facts.job is not None else self.books.finished_at(unit))

    def _remember(self, name: str, at: State, now: float) -> float:
        """For how many seconds a unit is in this state. What time alone can change is looked at again."""
        before = self._states.get(name)
        since = before[1] if before is not None and before[0] == at else now
        self._states[name] = (at, since)
        timed = at.hopeless or at.phase in ("succeeded", "failed", "absent")
        (self._again.add if timed else self._again.discard)(name)
        return now - since

    def _want(self, unit: Unit, facts: Facts, at: State, waited: float) -> reconcile.Want:
        name = unit.name
        uid = facts.job.metadata.uid if facts.job is not None else None
        create = self._create and self._held != "cancelled"
        if uid is not None:
            self._before_us.setdefault(name, uid if at.phase in ("succeeded", "failed", "deactivated") else "")
        again = waited > FILE_GRACE_SECONDS if at.phase == "succeeded" else self._retry_failed
        return reconcile.Want(
            open=bool(self.books.open(unit)),
            create=create,
            retry=create and again and uid is not None and self._before_us[name] == uid,
            gone=name in self._observer.gone or (not create and (self._create or self._alone)),
            hold=self._held == "paused",
            spec_hash=self._hands.spec_hash(unit) if create else "",
            waited=waited,
        )

    # -- ends ---------------------------------------------------------------------------------------------------

    def _finished(self, unit: Unit, facts: Facts, now: float) -> None:
        for task, result in self.books.finished(unit):
            self._teller.done(task, result)
            self._teller.part(unit, facts, task, "finished", now)

    def _settle(self, unit: Unit, at: State, facts: Facts, now: float, waited: float) -> None:
        for task, result in (settled := self.books.settle(unit, at, facts, now, waited)).done:
            self._teller.done(task, result)
            self._teller.part(unit, facts, task, "finished", now)
        for task, failure in settled.failed:
            self._teller.failed(task, failure)
            self._teller.part(unit, facts, task, "failed", now)

    def _give_up(self, unit: Unit, at: State, facts: Facts, now: float) -> None:
        for task, failure in self.books.refuse(unit, at, now):
            self._teller.failed(task, failure)
            self._teller.part(unit, facts, task, "failed", now)

    def _cancel(self, unit: Unit, facts: Facts, now: float) -> None:
        for task in self.books.cancel(unit):
            self._teller.part(unit, facts, task, "cancelled", now)

    def _end(self, unit: Unit, facts: Facts, now: float, *, at: float | None = None) -> None:
        """How the unit as a whole has ended, by its worst task; once."""
        if self._teller.chronicle.ended(unit.name):
            return
        stems = [task.stem for task in unit.tasks]
        failures = [self.books.failed[stem] for stem in stems if stem in self.books.failed]
        if failures:
            self._teller.end(unit, facts, "failed", now, detail=failures[0].message, at=at)
        elif any(stem in self.books.cancelled for stem in stems):
            self._teller.end(unit, facts, "cancelled", now)
        else:
            self._teller.end(unit, facts, "finished", now, at=at)

    # -- looking on ---------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._tick_at = now
        self._held = control.read(self._folder).state
        states = {name: (at, now - since) for name, (at, since) in self._states.items() if name in self._open}
        lines = list(dict.fromkeys(self._observer.troubles.values())) or diagnosis.troubles(states)
        if self._held == "paused" and "planned" in (self._teller.tracker.phase(t.stem) for t in self._run.tasks()):
            lines.append("paused: no more Jobs are made; `epp-batch resume` goes on")
        self._view.tick(self._teller.tracker.look(now, position=self._position, troubles=lines))

    async def _slow(self, kueue: Kueue, dice: random.Random) -> None:
        """Progress, files of shards, the place in the queue: each is nice to know and may be missing."""
        progress = Progress(self._client, self._cluster.namespace, self._folder)
        queues = {self._cluster.placement(unit.model).queue or self._cluster.queue for unit in self._run.units}
        while True:
            states = {name: self._states[name][0] for name in sorted(self._open & self._states.keys())}
            running = [name for name, at in states.items() if at.phase == "running"]
            for name in dice.sample(running, min(len(running), LOOKS)):
                await self._progress(progress, self._units[name])
            if diagnosis.waiting(states.values()):
                places = [await positions(self._client, kueue, self._cluster.namespace, queue) for queue in queues]
                ours = [place for found in places for name, place in (found or {}).items() if self._is_ours(name)]
                self._position = min(ours, default=None)
            else:
                self._position = None
            await asyncio.sleep(SLOW_SECONDS)

    async def _progress(self, progress: Progress, unit: Unit) -> None:
        pod = self._observer.facts(unit.name).pod
        if pod is None:
            return
        self._observer.mark(unit.name)
        at = await progress.read(self.books.open(unit), pod)
        if at is not None:
            before = sum(self.books.done[t.stem].audio_seconds for t in unit.tasks if t.stem in self.books.done)
            self._teller.progress(unit.name, before + at)

    def _is_ours(self, workload: str) -> bool:
        """A Workload is called `job-<Job's name>-<5 hex>`."""
        return workload.removeprefix("job-").rpartition("-")[0] in self._open
