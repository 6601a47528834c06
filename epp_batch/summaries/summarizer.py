"""Summarizes transcripts as they are finished: accepts tasks without waiting, limits the requests in flight."""

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
from epp_batch.errors import FailureKind, FolderError, InputError
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
from epp_batch.spec import Task
from epp_batch.summaries.client import AttemptFailed, GatewayClient
from epp_batch.summaries.requester import API_KEY_REMEDY, AttemptEvent, Sleep, SummaryRequester
from epp_batch.summaries.settings import SummarySettings
from epp_batch.summaries.summary import (
    SUMMARY_STAGE,
    SummaryError,
    find_current_summary,
    load_transcript,
    save_summary,
    save_summary_failure,
)
from epp_batch.timeline import EventKind, Journal, TimelineEvent

log = logging.getLogger("epp_batch.summaries")


class SummariesOutcome(msgspec.Struct, kw_only=True):
    """Counts and failures of the submitted tasks."""

    done: int = 0
    skipped: int = 0
    """Tasks with an existing summary."""
    failed: list[TaskFailure] = []


class Summarizer:
    """Summarizes finished transcripts through an OpenAI-compatible gateway.

    `url`: one address of the gateway or several, tried in turn when one shuts down or does not answer. `model`: empty
    for the first served model. Events go to `journal` and `on_event`, failures to `on_failure`, both called on the
    event loop. `unit_of_stem` maps a stem to the unit named in its events.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        folder: OutputFolder,
        *,
        api_key: str | None,
        concurrency: int,
        clock: Clock,
        tasks: Tasks,
        journal: Journal | None,
        settings: SummarySettings,
        rng: Random | None = None,
        sleep: Sleep = asyncio.sleep,
        unit_of_stem: Callable[[str], str] = str,
        on_event: Callable[[TimelineEvent], None] = lambda event: None,
        on_failure: Callable[[TaskFailure], None] = lambda failure: None,
    ) -> None:
        settings.validate()
        if concurrency < 1:
            raise InputError(f"invalid concurrency {concurrency}", remedy="give 1 or more")
        self._client = GatewayClient([url] if isinstance(url, str) else url, api_key, settings, clock)
        self._requester = SummaryRequester(self._client, model, settings, clock, rng or Random(), sleep)
        self._folder, self._settings, self._requested_model = folder, settings, model
        self._slots = asyncio.Semaphore(concurrency)
        self._clock, self._tasks, self._journal = clock, tasks, journal
        self._unit_of_stem, self._on_event, self._on_failure = unit_of_stem, on_event, on_failure
        self._running: set[asyncio.Task[None]] = set()
        self._submitted_stems: set[str] = set()
        self.outcome = SummariesOutcome()

    @property
    def pending(self) -> int:
        """Number of submitted tasks that have not ended."""
        return len(self._running)

    async def check_gateway(self) -> str:
        """Checks the gateway before there is work; returns a warning, "" if there is none.

        Raises InputError if the key is rejected or the address is not an OpenAI API. No answer is only a warning: the
        gateway may start later.
        """
        try:
            return await self._requester.discover_model()
        except AttemptFailed as failed:
            if failed.failure.status in (401, 403):
                raise InputError(f"{self._client.url}: {failed}", remedy=API_KEY_REMEDY) from failed
            if failed.failure.permanent:
                raise InputError(str(failed), remedy="give the address of the gateway's API") from failed
            return f"the gateway does not answer yet: {failed}"

    def submit(self, task: Task, result: TranscriptionResult) -> None:
        """Schedules the summary of a finished task; does nothing if the task was submitted before."""
        if task.stem in self._submitted_stems:
            return
        self._submitted_stems.add(task.stem)
        running = self._tasks.spawn(f"summary/{task.stem}", self._process_task(task, result))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def drain(self) -> SummariesOutcome:
        """Waits until every submitted task is summarized or has failed permanently."""
        while self._running:
            await asyncio.wait(self._running)
        return self.outcome

    async def close(self) -> None:
        """Cancels unfinished tasks, without failures in the folder (the next run does them), and closes connections."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.close()

    async def _process_task(self, task: Task, result: TranscriptionResult) -> None:
        async with self._slots:
            try:
                await self._summarize_task(task, result)
            except SummaryError as error:
                self._record_failure(task, result, error)
            except (FolderError, OSError) as error:
                self._record_failure(task, result, _build_write_error(task, error))
            except Exception as error:
                log.exception("summary of %s", task.stem)
                remedy = FailureKind.INTERNAL.remedy
                message = f"{type(error).__name__}: {error}"
                internal = SummaryError(task.recording.source, message, remedy, kind="internal")
                self._record_failure(task, result, internal)

    async def _summarize_task(self, task: Task, result: TranscriptionResult) -> None:
        key = partial(self._settings.key, result.key)
        if find_current_summary(self._folder, task, key, self._requested_model):
            self.outcome.skipped += 1
            return
        text, source = load_transcript(self._folder, task), task.recording.source

        def on_attempt_event(kind: AttemptEvent, detail: str) -> None:
            self._record_event(kind, task, detail)

        model = await self._requester.resolve_model(source, on_attempt_event)
        answer, summary = await self._requester.request_summary(source, text, key(model.name), on_attempt_event)
        save_summary(self._folder, task, answer, summary)
        self.outcome.done += 1
        detail = f"{summary.completion_tokens or '?'} tokens, the first after {summary.ttft:.2f} s"
        self._record_event("summarized", task, detail, summary.finished)

    def _record_failure(self, task: Task, result: TranscriptionResult, error: SummaryError) -> None:
        failure = TaskFailure(
            key=result.key,
            source=error.source,
            stage=SUMMARY_STAGE,
            kind=error.kind,
            message=error.message,
            remedy=error.remedy,
            permanent=False,  # the recording itself is transcribed; the next run requests its summary again
            at=self._clock.wall(),
        )
        save_summary_failure(self._folder, task, failure)
        self.outcome.failed.append(failure)
        self._record_event("unsummarized", task, failure.message, failure.at)
        self._on_failure(failure)

    def _record_event(self, kind: EventKind, task: Task, detail: str, at: float | None = None) -> None:
        at = self._clock.wall() if at is None else at
        event = TimelineEvent(at=at, unit=self._unit_of_stem(task.stem), kind=kind, stem=task.stem, detail=detail)
        if self._journal is not None:
            self._journal.append(event)
        self._on_event(event)


def _build_write_error(task: Task, error: FolderError | OSError) -> SummaryError:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = FailureKind.DISK_FULL if full else FailureKind.UNWRITABLE
    message = error.message if isinstance(error, FolderError) else str(error.strerror)
    return SummaryError(task.recording.source, message, kind.remedy, kind=kind.name.lower())
