"""Runs the data layer of one picker: discoveries fill the endpoint store, data sources keep its columns current.

llm-d: pkg/epp/datalayer/runtime.go. The contracts that it keeps towards plugins stand in `epp.api.datalayer`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any

from epp.api import Discovery, Endpoint, EndpointExtractor, EndpointReceiver
from epp.clock import Clock
from epp.config.plan import PlannedDataSource
from epp.datalayer.endpoint_union import EndpointUnion
from epp.datastore.endpoint_store import ColumnWriter, EndpointStore
from epp.errors import ConfigError, DataSourceError, Problem
from epp.tasks import Tasks, retry_with_backoff

log = logging.getLogger("epp.datalayer")

FIRST_LIST_SECONDS = 5.0
"""How long `DataLayer.start` waits for first lists. Later ones arrive while the picker listens, but is not ready."""

ReportFailure = Callable[[str, str], None]
"""Called for each failed read: type of the data source, and type of the extractor that could not read, else ''."""


class DataLayer:
    """Starts, restarts and stops discoveries and data sources. Everything happens on the event loop."""

    def __init__(
        self,
        store: EndpointStore,
        clock: Clock,
        rng: Random,
        *,
        refresh_interval: float,
        discoveries: Sequence[tuple[str, Discovery]] = (),
        data_sources: Sequence[PlannedDataSource] = (),
        on_failure: ReportFailure = lambda source, extractor: None,
    ) -> None:
        self._store = store
        self._tasks = Tasks("datalayer")
        union = EndpointUnion(store)
        self._discoveries = [_DiscoveryRun(name, discovery, union) for name, discovery in discoveries]
        self._sources = [
            _DataSourceRun(planned, store, clock, rng, refresh_interval, self._tasks, on_failure)
            for planned in data_sources
        ]

    @property
    def synced(self) -> bool:
        """Whether every discovery has delivered its first list."""
        return all(run.synced for run in self._discoveries)

    async def start(self, patience: float = FIRST_LIST_SECONDS) -> None:
        """Starts data sources, then discoveries; returns when all first lists are there, or after `patience` seconds.

        Raises the ConfigError of a plugin that cannot work as configured.
        """
        for source in self._sources:
            source.start()
        self._store.on_upsert(self._on_upsert)
        self._store.on_removed(self._on_removed)
        first_lists = [run.start(self._tasks) for run in self._discoveries]
        if first_lists:
            done, late = await asyncio.wait(first_lists, timeout=patience, return_when=asyncio.FIRST_EXCEPTION)
            for run in self._discoveries:
                run.end_start()
            _raise_config_errors(first_list.exception() for first_list in first_lists if first_list in done)
            if late:
                names = ", ".join(run.name for run in self._discoveries if not run.synced)
                log.warning("no endpoints from %s yet; the picker is not ready until its first list arrives", names)

    async def close(self) -> None:
        """Cancels everything that runs and waits for it, then closes the data sources."""
        await self._tasks.close()
        for source in self._sources:
            try:
                await source.close()
            except Exception:
                log.exception("data source %s: close() failed", source.name)

    def _on_upsert(self, slot: int) -> None:
        endpoint = self._store.get_endpoint(slot)
        if endpoint is not None:
            for source in self._sources:
                source.add_endpoint(slot, endpoint)

    def _on_removed(self, slot: int) -> None:
        for source in self._sources:
            source.remove_endpoint(slot)


class _DiscoveryRun:
    """One discovery: the task that runs it, and the set of endpoints that it has reported."""

    def __init__(self, name: str, discovery: Discovery, union: EndpointUnion) -> None:
        self.name = name
        self.synced = False
        self.endpoints = union.add_set()
        self._discovery = discovery
        self._first_list: asyncio.Future[None] | None = None

    def start(self, tasks: Tasks) -> asyncio.Future[None]:
        """Runs the discovery. The future ends with its first list, or with a ConfigError that came instead."""
        self._first_list = asyncio.get_running_loop().create_future()
        tasks.supervise(f"discovery {self.name}", self._run_once)
        return self._first_list

    def end_start(self) -> None:
        """The picker waits no longer: from now on a ConfigError is a failure like others, retried with backoff."""
        self._first_list = None

    def mark_synced(self) -> None:
        self.synced = True
        if self._first_list is not None and not self._first_list.done():
            self._first_list.set_result(None)

    async def _run_once(self) -> None:
        notifier = _Notifier(self)
        try:
            await self._discovery.run(notifier)
        except ConfigError as error:
            if self._first_list is None or self._first_list.done():
                raise
            self._first_list.set_exception(error)
            return
        finally:
            notifier.close()
        if not notifier.has_listed:
            raise RuntimeError(f"{type(self._discovery).__name__}.run returned before its first list of endpoints")


class _Notifier:
    """The DiscoveryNotifier of one call of `Discovery.run`; without effect once closed.

    `_listed` has the names reported so far, until the list of this call is complete.
    """

    def __init__(self, run: _DiscoveryRun) -> None:
        self._run: _DiscoveryRun | None = run
        self._listed: set[str] | None = set()

    @property
    def has_listed(self) -> bool:
        """Whether the list of this call is complete."""
        return self._listed is None

    def close(self) -> None:
        self._run = None

    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        if self._run is not None:
            self._run.endpoints.replace_all(endpoints)
            self._listed = None
            self._run.mark_synced()

    def upsert(self, endpoint: Endpoint) -> None:
        if self._run is not None:
            if self._listed is not None:
                self._listed.add(endpoint.name)
            self._run.endpoints.upsert(endpoint)

    def delete(self, name: str) -> None:
        if self._run is not None:
            self._run.endpoints.delete(name)

    def mark_synced(self) -> None:
        if self._run is not None:
            if self._listed is not None:  # a relist: what an earlier call has reported and this one has not is gone
                for name in self._run.endpoints.by_name.keys() - self._listed:
                    self._run.endpoints.delete(name)
                self._listed = None
            self._run.mark_synced()


class _DataSourceRun:
    """One data source: its tasks, and a receiver for each endpoint. It is the source's DataSourceContext.

    A task outlives its endpoint by the time that its cancellation takes. `_unfinished` has, by endpoint name, the tasks
    that have not ended; the next call for a name waits for all of them.
    """

    def __init__(
        self,
        planned: PlannedDataSource,
        store: EndpointStore,
        clock: Clock,
        rng: Random,
        refresh_interval: float,
        tasks: Tasks,
        on_failure: ReportFailure,
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.refresh_interval = refresh_interval
        self.name = planned.name
        self._source = planned.source
        self._extractors = [(extractor, store.create_writer(extractor.columns)) for _, extractor in planned.extractors]
        self._store = store
        self._tasks = tasks
        self._on_failure = on_failure
        self._receivers: dict[int, _Receiver] = {}
        self._receivers_by_name: dict[str, _Receiver] = {}
        self._unfinished: dict[str, set[asyncio.Task[Any]]] = {}
        self._started = False

    def start(self) -> None:
        self._source.start(self)
        self._started = True
        self._tasks.supervise(f"data source {self.name}", self._source.run)

    async def close(self) -> None:
        if self._started:
            await self._source.close()

    def receiver(self, endpoint_name: str) -> EndpointReceiver | None:
        return self._receivers_by_name.get(endpoint_name)

    def receivers(self) -> Sequence[EndpointReceiver]:
        return list(self._receivers.values())

    def add_endpoint(self, slot: int, endpoint: Endpoint) -> None:
        self.remove_endpoint(slot)  # of the same name: its labels have changed
        name = endpoint.name
        extractors = []
        for extractor, writer in self._extractors:
            try:
                extractors.append((type(extractor).type, extractor.open(endpoint, slot), writer))
            except Exception:  # of a plugin: must not end the discovery that has reported the endpoint
                log.exception("endpoint %s: %s: open() failed; its columns stay unknown", name, type(extractor).type)
        receiver = _Receiver(
            endpoint,
            slot,
            self._store.generation_of(slot),
            self.clock,
            type(self._source).type,
            extractors,
            self._on_failure,
        )
        self._receivers[slot] = self._receivers_by_name[name] = receiver
        unfinished = self._unfinished.setdefault(name, set())
        task = self._tasks.spawn(
            f"data source {self.name}: {name}", self._run_endpoint(receiver, frozenset(unfinished))
        )
        receiver.task = task
        unfinished.add(task)
        task.add_done_callback(partial(self._on_task_done, name))

    def remove_endpoint(self, slot: int) -> None:
        receiver = self._receivers.pop(slot, None)
        if receiver is not None:
            receiver.close()
            del self._receivers_by_name[receiver.endpoint.name]
            if receiver.task is not None:
                receiver.task.cancel()

    def _on_task_done(self, name: str, task: asyncio.Task[Any]) -> None:
        unfinished = self._unfinished[name]
        unfinished.discard(task)
        if not unfinished:
            del self._unfinished[name]

    async def _run_endpoint(self, receiver: _Receiver, previous: frozenset[asyncio.Task[Any]]) -> None:
        if previous:
            await asyncio.wait(previous)
        await retry_with_backoff(
            lambda: self._source.run_endpoint(receiver.endpoint, receiver), receiver.record_exception
        )


class _Receiver:
    """The EndpointReceiver of one endpoint and one data source."""

    __slots__ = (
        "_clock",
        "_extractors",
        "_generation",
        "_on_failure",
        "_slot",
        "_source_type",
        "closed",
        "endpoint",
        "failures",
        "task",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        slot: int,
        generation: int,
        clock: Clock,
        source_type: str,
        extractors: Sequence[tuple[str, EndpointExtractor, ColumnWriter]],
        on_failure: ReportFailure,
    ) -> None:
        self.endpoint = endpoint
        self.failures = 0
        self.closed = False
        self.task: asyncio.Task[Any] | None = None
        self._slot = slot
        self._generation = generation
        self._clock = clock
        self._source_type = source_type
        self._extractors = extractors
        self._on_failure = on_failure

    def deliver(self, payload: Any, observed_at: float | None = None) -> bool:
        if self.closed:
            return True
        now = self._clock.now()
        if observed_at is None or not observed_at <= now:
            observed_at = now  # values observed in the future, or at NaN, would never become stale
        readable = True
        for extractor_type, extractor, writer in self._extractors:
            try:
                update = extractor.extract(payload)
                if update is not None:
                    writer.record(self._slot, self._generation, observed_at, update.values, update.lora_adapters)
            except Exception as error:  # of a plugin: concerns this payload only
                readable = False
                self._fail(f"{extractor_type}: {_describe_error(error)}", extractor_type, error)
        if readable and self.failures:
            log.info(
                "endpoint %s: %s works again after %d failures", self.endpoint.name, self._source_type, self.failures
            )
            self.failures = 0
        return readable

    def record_failure(self, reason: str) -> None:
        self._fail(reason, "", None)

    def record_exception(self, error: BaseException, pause: float) -> None:
        """`run_endpoint` has raised; it is called again after `pause` seconds."""
        self._fail(f"{self._source_type}: {_describe_error(error)}", "", error)

    def close(self) -> None:
        self.closed = True
        for extractor_type, extractor, _ in self._extractors:
            try:
                extractor.close()
            except Exception:
                log.exception("endpoint %s: %s: close() failed", self.endpoint.name, extractor_type)

    def _fail(self, reason: str, extractor_type: str, error: BaseException | None) -> None:
        if self.closed:
            return
        self.failures += 1
        if self.failures == 1:  # the first of consecutive failures only: a dead server is read 20 times a second
            unexpected = error is not None and not isinstance(error, (DataSourceError, OSError))
            log.warning("endpoint %s: %s", self.endpoint.name, reason, exc_info=error if unexpected else None)
        self._on_failure(self._source_type, extractor_type)


def _raise_config_errors(errors: Iterable[BaseException | None]) -> None:
    """Raises the error if there is one, and one ConfigError with all problems if there are several."""
    raised = [error for error in errors if isinstance(error, ConfigError)]
    if len(raised) == 1:
        raise raised[0]
    if raised:
        raise ConfigError(
            [
                Problem(": ".join(filter(None, (error.source, problem.path))), problem.message)
                for error in raised
                for problem in error.problems
            ]
        )


def _describe_error(error: BaseException) -> str:
    return str(error) or type(error).__name__
