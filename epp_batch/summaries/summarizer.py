"""Summaries as transcripts land: takes tasks without waiting, asks a bounded number at a time, keeps at it."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import msgspec

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.errors import FolderError, InputError, Kind
from epp_batch.output_folder import Failure, Folder, Result
from epp_batch.spec import Task
from epp_batch.summaries.client import Client, Refused
from epp_batch.summaries.requester import Asking, Sleep, Told
from epp_batch.summaries.settings import Settings
from epp_batch.summaries.summary import STAGE, Unsummarized, existing, save, save_failure, transcript
from epp_batch.timeline import Event, EventKind, Journal

log = logging.getLogger("epp_batch.summaries")


class Outcome(msgspec.Struct, kw_only=True):
    """What came of the tasks offered."""

    done: int = 0
    skipped: int = 0
    """Summaries that were there already."""
    failed: list[Failure] = []


class Summarizer:
    """Summarises finished transcripts through an OpenAI endpoint.

    `url` is one address of the gateway or several, of which the next is used when one shuts down. `model` may be empty:
    then it is the first that is served. Events go to `journal` and `on_event`, each failure to `on_failure`, at once.
    `units` names the unit of a stem in events.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        folder: Folder,
        *,
        api_key: str | None,
        concurrency: int,
        clock: Clock,
        tasks: Tasks,
        journal: Journal | None,
        settings: Settings,
        rng: Random | None = None,
        sleep: Sleep = asyncio.sleep,
        units: Callable[[str], str] = str,
        on_event: Callable[[Event], None] = lambda event: None,
        on_failure: Callable[[Failure], None] = lambda failure: None,
    ) -> None:
        settings.check()
        if concurrency < 1:
            raise InputError(f"{concurrency} summaries at once", remedy="give 1 or more")
        self._client = Client([url] if isinstance(url, str) else url, api_key, settings, clock)
        self._asking = Asking(self._client, model, settings, clock, rng or Random(), sleep)
        self._folder, self._settings, self._named = folder, settings, model
        self._slots = asyncio.Semaphore(concurrency)
        self._clock, self._tasks, self._journal = clock, tasks, journal
        self._units, self._on_event, self._on_failure = units, on_event, on_failure
        self._running: set[asyncio.Task[None]] = set()
        self._offered: set[str] = set()
        self.outcome = Outcome()

    @property
    def pending(self) -> int:
        """Tasks that were offered and are not through."""
        return len(self._running)

    async def check(self) -> str:
        """Asks the gateway before there is anything to do; a warning, or "" where all is well.

        Raises InputError where it will never let us in. That nobody answers yet is only a warning.
        """
        try:
            return await self._asking.look()
        except Refused as refused:
            if refused.refusal.status in (401, 403):
                raise InputError(f"{self._client.url}: {refused}", remedy=KEY) from refused
            if refused.refusal.permanent:
                raise InputError(str(refused), remedy="give the address of the gateway's API") from refused
            return f"the gateway does not answer yet: {refused}"

    def offer(self, task: Task, result: Result) -> None:
        """Summarises this transcript as soon as its turn comes; a task that was offered before is not taken again."""
        if task.stem in self._offered:
            return
        self._offered.add(task.stem)
        running = self._tasks.spawn(f"summary/{task.stem}", self._one(task, result))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def drain(self) -> Outcome:
        """Returns when all that was offered is summarised, or failed for good."""
        while self._running:
            await asyncio.wait(self._running)
        return self.outcome

    async def close(self) -> None:
        """Gives up what is not through, without a word in the folder: the next run does it. Closes connections."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.close()

    async def _one(self, task: Task, result: Result) -> None:
        async with self._slots:
            try:
                await self._summarise(task, result)
            except Unsummarized as error:
                self._failed(task, result, error)
            except (FolderError, OSError) as error:
                self._failed(task, result, _unwritten(task, error))
            except Exception as error:
                log.exception("summary of %s", task.stem)
                remedy = Kind.INTERNAL.remedy
                message = f"{type(error).__name__}: {error}"
                wrong = Unsummarized(task.recording.source, message, remedy, kind="internal")
                self._failed(task, result, wrong)

    async def _summarise(self, task: Task, result: Result) -> None:
        key = partial(self._settings.key, result.key)
        if existing(self._folder, task, key, self._named):
            self.outcome.skipped += 1
            return
        text, source = transcript(self._folder, task), task.recording.source

        def tell(told: Told, detail: str) -> None:
            self._event(told, task, detail)

        model = await self._asking.model(source, tell)
        answer, summary = await self._asking.ask(source, text, key(model.name), tell)
        save(self._folder, task, answer, summary)
        self.outcome.done += 1
        detail = f"{summary.completion_tokens or '?'} tokens, the first after {summary.ttft:.2f} s"
        self._event("summarized", task, detail, summary.finished)

    def _failed(self, task: Task, result: Result, error: Unsummarized) -> None:
        failure = Failure(
            key=result.key,
            source=error.source,
            stage=STAGE,
            kind=error.kind,
            message=error.message,
            remedy=error.remedy,
            permanent=False,  # of the recording, whose transcript is there; every run asks again
            at=self._clock.wall(),
        )
        save_failure(self._folder, task, failure)
        self.outcome.failed.append(failure)
        self._event("unsummarized", task, failure.message, failure.at)
        self._on_failure(failure)

    def _event(self, kind: EventKind, task: Task, detail: str, at: float | None = None) -> None:
        at = self._clock.wall() if at is None else at
        event = Event(at=at, unit=self._units(task.stem), kind=kind, stem=task.stem, detail=detail)
        if self._journal is not None:
            self._journal.write(event)
        self._on_event(event)


KEY = "give the gateway's key in OPENAI_API_KEY"


def _unwritten(task: Task, error: FolderError | OSError) -> Unsummarized:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = Kind.DISK_FULL if full else Kind.UNWRITABLE
    message = str(error).removesuffix(f"; {error.remedy}") if isinstance(error, FolderError) else str(error.strerror)
    return Unsummarized(task.recording.source, message, kind.remedy, kind=kind.name.lower())
