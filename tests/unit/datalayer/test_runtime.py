"""The contracts of discovery, data source and extractor (`epp.api.datalayer`), as the data layer keeps them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import numpy as np
import pytest

from epp.api import (
    KV_CACHE_USAGE,
    RUNNING_REQUESTS,
    WAITING_REQUESTS,
    Column,
    DataSource,
    DataSourceContext,
    DataSourceError,
    Discovery,
    DiscoveryNotifier,
    Endpoint,
    EndpointExtractor,
    EndpointReceiver,
    Endpoints,
    EndpointUpdate,
    Extractor,
    ProducedData,
    Producer,
    Request,
)
from epp.clock import SystemClock
from epp.config.plan import PlannedDataSource
from epp.datalayer.runtime import DataLayer
from epp.datastore.endpoint_store import EndpointStore
from epp.errors import ConfigError, Problem
from epp.testing import build_request, check_extractor, check_producer

A, B = (Endpoint(name=name, address=f"10.0.0.{i}", port=8000) for i, name in ((1, "a"), (2, "b")))


class ScriptedDiscovery(Discovery):
    """Each call of `run` plays the next of `calls`; after the last it waits to be cancelled."""

    def __post_init__(self) -> None:
        self.calls: list[Callable[[DiscoveryNotifier], Awaitable[None]]] = []
        self.notifiers: list[DiscoveryNotifier] = []

    async def run(self, notifier: DiscoveryNotifier) -> None:
        self.notifiers.append(notifier)
        await self.calls.pop(0)(notifier)


async def forever(notifier: DiscoveryNotifier) -> None:
    await asyncio.Event().wait()


def listing(*endpoints: Endpoint) -> Callable[[DiscoveryNotifier], Awaitable[None]]:
    """Reports a list, then waits."""

    async def run(notifier: DiscoveryNotifier) -> None:
        notifier.replace_all(endpoints)
        await asyncio.Event().wait()

    return run


def failing(error: Exception, *endpoints: Endpoint) -> Callable[[DiscoveryNotifier], Awaitable[None]]:
    """Reports a list if there is one, then raises."""

    async def run(notifier: DiscoveryNotifier) -> None:
        if endpoints:
            notifier.replace_all(endpoints)
        raise error

    return run


def scripted(*calls: Callable[[DiscoveryNotifier], Awaitable[None]]) -> ScriptedDiscovery:
    discovery = ScriptedDiscovery()
    discovery.calls.extend(calls)
    return discovery


class ScriptedSource(DataSource, type="scripted-source"):
    """Records the order of calls; `on_endpoint` and `on_run` are what `run_endpoint` and `run` do."""

    def __post_init__(self) -> None:
        self.calls: list[str] = []
        self.receivers: dict[str, EndpointReceiver] = {}
        self.on_endpoint: Callable[[EndpointReceiver], Awaitable[None]] | None = None
        self.on_run: Callable[[], Awaitable[None]] | None = None

    def start(self, context: DataSourceContext) -> None:
        self.calls.append("start")
        self.context = context

    async def run(self) -> None:
        self.calls.append("run")
        if self.on_run is not None:
            await self.on_run()

    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        name = endpoint.name + "".join(sorted(endpoint.labels))
        self.calls.append(f"+{name}")
        self.receivers[endpoint.name] = receiver
        try:
            if self.on_endpoint is not None:
                await self.on_endpoint(receiver)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)  # closing a connection takes a moment
            self.calls.append(f"-{name}")

    async def close(self) -> None:
        self.calls.append("close")


class MappingExtractor(Extractor, type="mapping-extractor"):
    """Payloads are mappings of columns; an exception as payload is raised."""

    def __post_init__(self) -> None:
        self.columns = (WAITING_REQUESTS, RUNNING_REQUESTS)
        self.calls: list[str] = []

    def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
        self.calls.append(f"open {endpoint.name} {slot}")
        return _MappingReader(self, endpoint)


class _MappingReader(EndpointExtractor):
    def __init__(self, extractor: MappingExtractor, endpoint: Endpoint) -> None:
        self._extractor = extractor
        self._endpoint = endpoint

    def extract(self, payload: Any) -> EndpointUpdate | None:
        if isinstance(payload, Exception):
            raise payload
        return None if payload is None else EndpointUpdate(payload)

    def close(self) -> None:
        self._extractor.calls.append(f"close {self._endpoint.name}")


class Layer:
    """A data layer, its store, and what was reported as failed."""

    def __init__(self, discoveries: list[Discovery], sources: list[tuple[DataSource, list[Extractor]]]) -> None:
        self.clock = SystemClock()
        self.store = EndpointStore(self.clock, staleness=60.0)
        self.failures: list[tuple[str, str]] = []
        self.runtime = DataLayer(
            self.store,
            self.clock,
            Random(1),
            refresh_interval=0.25,
            discoveries=[(f"discovery-{i}", discovery) for i, discovery in enumerate(discoveries)],
            data_sources=[
                PlannedDataSource(f"source-{i}", source, [(f"extractor-{i}-{j}", e) for j, e in enumerate(extractors)])
                for i, (source, extractors) in enumerate(sources)
            ],
            on_failure=lambda source, extractor: self.failures.append((source, extractor)),
        )

    def names(self) -> set[str]:
        return {endpoint.name for endpoint in self.store.list_endpoints()}

    def value(self, column: Column, slot: int = 0) -> float:
        return float(self.store.snapshot().columns[column][slot])


@asynccontextmanager
async def running(
    *discoveries: Discovery, sources: list[tuple[DataSource, list[Extractor]]] | None = None, patience: float = 5.0
) -> AsyncIterator[Layer]:
    layer = Layer(list(discoveries), sources or [])
    try:
        await layer.runtime.start(patience)
        yield layer
    finally:
        await layer.runtime.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


class TestDiscovery:
    async def test_start_waits_for_the_first_list_of_every_discovery(self) -> None:
        async def late(notifier: DiscoveryNotifier) -> None:
            await asyncio.sleep(0.05)
            notifier.upsert(B)
            notifier.mark_synced()
            await asyncio.Event().wait()

        async with running(scripted(listing(A)), scripted(late)) as layer:
            assert layer.runtime.synced
            assert layer.names() == {"a", "b"}

    async def test_after_its_patience_start_returns_and_the_first_list_may_come_later(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        released = asyncio.Event()

        async def late(notifier: DiscoveryNotifier) -> None:
            await released.wait()
            notifier.replace_all([])
            await asyncio.Event().wait()

        async with running(scripted(listing(A)), scripted(late), patience=0.01) as layer:
            assert not layer.runtime.synced
            assert layer.names() == {"a"}
            assert "no endpoints from discovery-1 yet" in caplog.text
            released.set()
            await until(lambda: layer.runtime.synced)

    async def test_upserts_alone_do_not_complete_the_first_list(self) -> None:
        async def watch(notifier: DiscoveryNotifier) -> None:
            notifier.upsert(A)
            notifier.upsert(B)
            notifier.delete("a")
            await asyncio.Event().wait()

        async with running(scripted(watch), patience=0.01) as layer:
            assert layer.names() == {"b"}
            assert not layer.runtime.synced

    async def test_a_config_error_before_the_first_list_ends_the_start(self) -> None:
        layer = Layer([scripted(forever), scripted(failing(ConfigError([Problem("path", "is wrong")])))], [])
        with pytest.raises(ConfigError, match="path: is wrong"):
            await layer.runtime.start()
        await layer.runtime.close()

    async def test_config_errors_of_several_discoveries_are_reported_together(self) -> None:
        broken = ConfigError([Problem("endpoints[0]", "is wrong")], "pool.yaml")
        layer = Layer([scripted(failing(ConfigError([Problem("--dns x", "no port")]))), scripted(failing(broken))], [])
        with pytest.raises(ConfigError) as raised:
            await layer.runtime.start()
        await layer.runtime.close()
        assert list(map(str, raised.value.problems)) == ["--dns x: no port", "pool.yaml: endpoints[0]: is wrong"]

    async def test_a_failed_run_keeps_its_endpoints_and_is_called_again(self, caplog: pytest.LogCaptureFixture) -> None:
        discovery = scripted(failing(ConnectionError("lost"), A, B), failing(RuntimeError("still lost")), listing(A))
        async with running(discovery) as layer:
            await until(lambda: len(discovery.notifiers) == 2)
            assert layer.names() == {"a", "b"}
            assert layer.runtime.synced
            await until(lambda: layer.names() == {"a"})
        assert "discovery discovery-0 failed" in caplog.text

    async def test_a_late_config_error_is_a_failure_like_others(self, caplog: pytest.LogCaptureFixture) -> None:
        async def late(notifier: DiscoveryNotifier) -> None:
            await asyncio.sleep(0.05)
            raise ConfigError([Problem("path", "is wrong")])

        async with running(scripted(late, listing(A)), patience=0.01) as layer:
            assert not layer.runtime.synced
            await until(lambda: layer.names() == {"a"})
            assert layer.runtime.synced
        assert "path: is wrong" in caplog.text

    async def test_a_relist_by_single_events_removes_what_is_not_listed_again(self) -> None:
        async def relist(notifier: DiscoveryNotifier) -> None:
            notifier.upsert(B)
            await released.wait()
            notifier.mark_synced()
            notifier.upsert(A)
            notifier.mark_synced()
            await asyncio.Event().wait()

        released = asyncio.Event()
        other = Endpoint(name="c", address="10.0.0.3", port=8000)
        discovery = scripted(failing(ConnectionError("lost"), A, other), relist)
        async with running(discovery) as layer:
            await until(lambda: layer.names() == {"a", "b", "c"})
            released.set()
            await until(lambda: layer.names() == {"a", "b"})

    async def test_a_config_error_after_the_first_list_is_a_failure_like_others(self) -> None:
        discovery = scripted(failing(ConfigError([Problem("path", "is wrong")]), A), listing(B))
        async with running(discovery) as layer:
            await until(lambda: layer.names() == {"b"})

    async def test_returning_before_the_first_list_is_a_failure(self, caplog: pytest.LogCaptureFixture) -> None:
        async def nothing(notifier: DiscoveryNotifier) -> None:
            return None

        async with running(scripted(nothing, listing(A))) as layer:
            assert layer.names() == {"a"}
        assert "ScriptedDiscovery.run returned before its first list" in caplog.text

    async def test_returning_before_the_list_of_a_relist_is_a_failure(self, caplog: pytest.LogCaptureFixture) -> None:
        async def nothing(notifier: DiscoveryNotifier) -> None:
            return None

        async with running(scripted(failing(ConnectionError("lost"), A, B), nothing, listing(A))) as layer:
            assert layer.names() == {"a", "b"}
            await until(lambda: layer.names() == {"a"})
        assert "ScriptedDiscovery.run returned before its first list" in caplog.text

    async def test_a_list_that_fails_while_it_is_read_changes_nothing(self) -> None:
        def broken() -> Iterator[Endpoint]:
            yield B
            raise ValueError("broken")

        async def relist(notifier: DiscoveryNotifier) -> None:
            with pytest.raises(ValueError, match="broken"):
                notifier.replace_all(broken())
            assert layer.names() == {"a"}
            notifier.upsert(B)
            notifier.mark_synced()
            await asyncio.Event().wait()

        async with running(scripted(failing(ConnectionError("lost"), A), relist)) as layer:
            await until(lambda: layer.names() == {"b"})

    async def test_a_run_that_is_cancelled_from_within_is_called_again(self) -> None:
        async def cancelled(notifier: DiscoveryNotifier) -> None:
            notifier.replace_all([A])
            raise asyncio.CancelledError

        async with running(scripted(cancelled, listing(B))) as layer:
            await until(lambda: layer.names() == {"b"})

    async def test_the_call_for_an_endpoint_reported_during_close_ends_before_its_source_is_closed(self) -> None:
        async def last_words(notifier: DiscoveryNotifier) -> None:
            notifier.replace_all([A])
            try:
                await asyncio.Event().wait()
            finally:
                notifier.upsert(B)

        source = ScriptedSource()
        async with running(scripted(last_words), sources=[(source, [])]):
            await until(lambda: "+a" in source.calls)
        await asyncio.sleep(0.02)
        assert set(source.calls[3:-1]) == {"-a", "+b", "-b"}
        assert source.calls[-1] == "close"

    async def test_returning_after_the_first_list_leaves_the_endpoints(self) -> None:
        async def once(notifier: DiscoveryNotifier) -> None:
            notifier.replace_all([A])

        discovery = scripted(once)
        async with running(discovery) as layer:
            await asyncio.sleep(0.15)
            assert layer.names() == {"a"}
            assert len(discovery.notifiers) == 1

    async def test_a_notifier_has_no_effect_after_its_run(self) -> None:
        discovery = scripted(failing(ConnectionError("lost"), A), listing(A))
        async with running(discovery) as layer:
            await until(lambda: len(discovery.notifiers) == 2)
            old = discovery.notifiers[0]
            old.upsert(B)
            old.replace_all([])
            old.delete("a")
            assert layer.names() == {"a"}


class TestDataSource:
    async def test_the_order_of_calls(self) -> None:
        source = ScriptedSource()
        async with running(scripted(listing(A)), sources=[(source, [])]) as layer:
            await until(lambda: "+a" in source.calls)
            assert source.calls == ["start", "run", "+a"]
            assert source.context.refresh_interval == 0.25
            assert source.context.clock is layer.clock
        assert source.calls == ["start", "run", "+a", "-a", "close"]

    async def test_a_config_error_of_start_ends_the_start(self) -> None:
        class Unusable(DataSource):
            def start(self, context: DataSourceContext) -> None:
                raise ConfigError([Problem("certificate", "is missing")])

            async def close(self) -> None:
                raise AssertionError("it was never started")

        layer = Layer([], [(Unusable(), [])])
        with pytest.raises(ConfigError, match="certificate: is missing"):
            await layer.runtime.start()
        await layer.runtime.close()

    async def test_a_failing_close_does_not_keep_other_sources_open(self, caplog: pytest.LogCaptureFixture) -> None:
        class Unclosable(ScriptedSource):
            async def close(self) -> None:
                raise OSError("busy")

        other = ScriptedSource()
        async with running(sources=[(Unclosable(), []), (other, [])]):
            pass
        assert other.calls[-1] == "close"
        assert "data source source-0: close() failed" in caplog.text

    async def test_run_endpoint_lasts_from_when_the_endpoint_joins_until_it_leaves(self) -> None:
        source, extractor = ScriptedSource(), MappingExtractor()
        async with running(sources=[(source, [extractor])]) as layer:
            layer.store.upsert(A)
            layer.store.upsert(B)
            await until(lambda: "+b" in source.calls)
            layer.store.remove("a")
            assert extractor.calls == ["open a 0", "open b 1", "close a"]
            await until(lambda: "-a" in source.calls)
            assert "-b" not in source.calls

    async def test_deliveries_after_the_endpoint_has_left_are_dropped(self) -> None:
        source = ScriptedSource()
        async with running(sources=[(source, [MappingExtractor()])]) as layer:
            layer.store.upsert(A)
            await until(lambda: "a" in source.receivers)
            receiver = source.receivers["a"]
            layer.store.remove("a")
            assert layer.store.upsert(B) == 0, "the slot is used again"
            assert receiver.deliver({WAITING_REQUESTS: 9.0})
            receiver.record_failure("gone")
            assert np.isnan(layer.value(WAITING_REQUESTS))
            assert layer.failures == []

    async def test_when_labels_change_the_old_call_ends_before_the_new_one_begins(self) -> None:
        source, extractor = ScriptedSource(), MappingExtractor()
        async with running(sources=[(source, [extractor])]) as layer:
            layer.store.upsert(A)
            await until(lambda: "+a" in source.calls)
            for label in ("x", "y"):
                layer.store.upsert(Endpoint(name="a", address=A.address, port=A.port, labels={label: ""}))
                await asyncio.sleep(0)  # the call for no label is being cancelled: it must not be cancelled twice
            await until(lambda: "+ay" in source.calls)
            assert source.calls[2:] == ["+a", "-a", "+ay"], "the call for x was cancelled before it began"
            assert extractor.calls == ["open a 0", "close a", "open a 0", "close a", "open a 0"]

    async def test_a_server_at_another_address_waits_for_the_old_call_of_its_name(self) -> None:
        source = ScriptedSource()
        async with running(sources=[(source, [MappingExtractor()])]) as layer:
            layer.store.upsert(A)
            await until(lambda: "+a" in source.calls)
            layer.store.upsert(Endpoint(name="a", address="10.9.9.9", port=1))
            await until(lambda: source.calls.count("+a") == 2)
            assert source.calls[2:] == ["+a", "-a", "+a"]
            assert source.receivers["a"].endpoint.address == "10.9.9.9"

    async def test_a_failing_endpoint_is_called_again_and_does_not_disturb_others(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = ScriptedSource()

        async def fail_twice(receiver: EndpointReceiver) -> None:
            if receiver.endpoint.name == "a" and receiver.failures < 2:
                raise ConnectionError("refused")
            receiver.deliver({WAITING_REQUESTS: 1.0})

        source.on_endpoint = fail_twice
        caplog.set_level(logging.INFO)
        async with running(sources=[(source, [MappingExtractor()])]) as layer:
            layer.store.upsert(A)
            layer.store.upsert(B)
            await until(lambda: layer.value(WAITING_REQUESTS, 1) == 1.0)
            assert np.isnan(layer.value(WAITING_REQUESTS, 0))
            await until(lambda: layer.value(WAITING_REQUESTS, 0) == 1.0)
            assert layer.failures == [("scripted-source", "")] * 2
            assert source.receivers["a"].failures == 0
        messages = [record.getMessage() for record in caplog.records if record.name == "epp.datalayer"]
        assert messages == [
            "endpoint a: scripted-source: refused",
            "endpoint a: scripted-source works again after 2 failures",
        ]

    async def test_a_call_whose_clean_up_fails_ends_with_its_endpoint(self) -> None:
        source = ScriptedSource()

        async def fail_when_cancelled(receiver: EndpointReceiver) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise ConnectionResetError("closing failed")

        source.on_endpoint = fail_when_cancelled
        async with asyncio.timeout(2):
            async with running(sources=[(source, [])]) as layer:
                layer.store.upsert(A)
                await until(lambda: "+a" in source.calls)
                layer.store.remove("a")
                await asyncio.sleep(0.15)
                assert source.calls.count("+a") == 1
                assert layer.failures == []

    async def test_a_call_that_is_cancelled_from_within_is_a_failure_of_the_endpoint(self) -> None:
        source = ScriptedSource()

        async def cancel_once(receiver: EndpointReceiver) -> None:
            if not receiver.failures:
                raise asyncio.CancelledError

        source.on_endpoint = cancel_once
        async with running(scripted(listing(A)), sources=[(source, [])]) as layer:
            await until(lambda: source.calls.count("+a") == 2)
            assert layer.failures == [("scripted-source", "")]

    async def test_one_subscription_may_serve_all_endpoints(self) -> None:
        source = ScriptedSource()

        async def subscribe() -> None:
            await until(lambda: len(source.context.receivers()) == 2)
            for name, value in (("b", 2.0), ("a", 1.0)):
                receiver = source.context.receiver(name)
                assert receiver is not None
                receiver.deliver({WAITING_REQUESTS: value})
            assert source.context.receiver("c") is None

        source.on_run = subscribe
        async with running(scripted(listing(A, B)), sources=[(source, [MappingExtractor()])]) as layer:
            await until(lambda: layer.value(WAITING_REQUESTS, 0) == 1.0)
            assert layer.value(WAITING_REQUESTS, 1) == 2.0

    async def test_several_sources_write_their_own_columns(self) -> None:
        load, cache = ScriptedSource(), ScriptedSource()
        cache_extractor = MappingExtractor()
        cache_extractor.columns = (WAITING_REQUESTS, KV_CACHE_USAGE)
        sources: list[tuple[DataSource, list[Extractor]]] = [(load, [MappingExtractor()]), (cache, [cache_extractor])]
        async with running(scripted(listing(A)), sources=sources) as layer:
            await until(lambda: "a" in cache.receivers)
            load.receivers["a"].deliver({WAITING_REQUESTS: 1.0, RUNNING_REQUESTS: 2.0})
            cache.receivers["a"].deliver({WAITING_REQUESTS: 9.0, KV_CACHE_USAGE: 0.5})
            assert layer.value(WAITING_REQUESTS) == 1.0, "a column has one extractor: the first"
            assert layer.value(KV_CACHE_USAGE) == 0.5
            cache.receivers["a"].record_failure("lost")
            assert (cache.receivers["a"].failures, load.receivers["a"].failures) == (1, 0)

    async def test_older_observations_than_the_newest_are_dropped(self) -> None:
        source = ScriptedSource()
        async with running(scripted(listing(A)), sources=[(source, [MappingExtractor()])]) as layer:
            await until(lambda: "a" in source.receivers)
            now = layer.clock.now()
            source.receivers["a"].deliver({WAITING_REQUESTS: 1.0}, now)
            source.receivers["a"].deliver({WAITING_REQUESTS: 2.0}, now - 1)
            assert layer.value(WAITING_REQUESTS) == 1.0
            assert layer.store.last_scraped_at(0) == now
            source.receivers["a"].deliver({WAITING_REQUESTS: 3.0})
            assert layer.value(WAITING_REQUESTS) == 3.0

    @pytest.mark.parametrize("ahead", [3600.0, 1.7e9, float("nan")], ids=["future", "wall clock", "NaN"])
    async def test_a_time_of_observation_that_cannot_be_counts_as_now(self, ahead: float) -> None:
        source = ScriptedSource()
        async with running(scripted(listing(A)), sources=[(source, [MappingExtractor()])]) as layer:
            await until(lambda: "a" in source.receivers)
            source.receivers["a"].deliver({RUNNING_REQUESTS: 1.0}, layer.clock.now() + ahead)
            assert layer.store.last_scraped_at(0) <= layer.clock.now()
            source.receivers["a"].deliver({RUNNING_REQUESTS: 2.0})
            assert layer.value(RUNNING_REQUESTS) == 2.0


HELD_BLOCKS = Column("held_blocks", "blocks", "KV-cache blocks that the endpoint holds")


class BlockIndex(Producer, Extractor, type="block-index"):
    """An index filled by pushed events and read by each request, as for KV events."""

    produces = (HELD_BLOCKS,)

    def __post_init__(self) -> None:
        self.held: dict[int, float] = {}

    def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
        return _BlockEvents(self.held, slot)

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {HELD_BLOCKS: np.array([self.held.get(slot, 0.0) for slot in endpoints.slots.tolist()], np.float32)}


class _BlockEvents(EndpointExtractor):
    def __init__(self, held: dict[int, float], slot: int) -> None:
        self._held = held
        self._slot = slot

    def extract(self, payload: Any) -> EndpointUpdate | None:
        self._held[self._slot] = self._held.get(self._slot, 0.0) + payload
        return None

    def close(self) -> None:
        self._held.pop(self._slot, None)


class TestExtractor:
    async def test_one_plugin_may_be_extractor_and_producer(self) -> None:
        source, index = ScriptedSource(), BlockIndex()
        check_producer(index)
        check_extractor(index, [1.0, -1.0])
        async with running(scripted(listing(A, B)), sources=[(source, [index])]) as layer:
            await until(lambda: len(source.receivers) == 2)
            source.receivers["b"].deliver(3.0)
            snapshot = layer.store.snapshot()
            pool = Endpoints(snapshot, snapshot.live_slots)
            assert index.produce(build_request(), pool)[HELD_BLOCKS].tolist() == [0.0, 3.0]
            layer.store.remove("b")
            assert index.held == {}

    @pytest.mark.parametrize(
        ("error", "traceback"), [(DataSourceError("not a page"), False), (ZeroDivisionError("bug"), True)]
    )
    async def test_an_unreadable_payload_is_counted_and_logged_once(
        self, error: Exception, traceback: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = ScriptedSource()
        async with running(scripted(listing(A)), sources=[(source, [MappingExtractor()])]) as layer:
            await until(lambda: "a" in source.receivers)
            receiver = source.receivers["a"]
            receiver.deliver({WAITING_REQUESTS: 1.0})
            assert [receiver.deliver(error) for _ in range(3)] == [False] * 3
            assert receiver.failures == 3
            assert layer.failures == [("scripted-source", "mapping-extractor")] * 3
            assert layer.value(WAITING_REQUESTS) == 1.0, "the last values stay until they are stale"
        [record] = [record for record in caplog.records if record.name == "epp.datalayer"]
        assert record.getMessage() == f"endpoint a: mapping-extractor: {error}"
        assert bool(record.exc_info) == traceback

    async def test_an_update_with_unusable_values_is_an_unreadable_payload(self) -> None:
        source = ScriptedSource()
        async with running(scripted(listing(A)), sources=[(source, [MappingExtractor()])]) as layer:
            await until(lambda: "a" in source.receivers)
            assert not source.receivers["a"].deliver({WAITING_REQUESTS: None})
            assert layer.failures == [("scripted-source", "mapping-extractor")]

    async def test_an_update_that_is_unusable_in_part_leaves_no_values_without_a_time(self) -> None:
        source = ScriptedSource()
        async with running(scripted(listing(A)), sources=[(source, [MappingExtractor()])]) as layer:
            await until(lambda: "a" in source.receivers)
            assert not source.receivers["a"].deliver({WAITING_REQUESTS: 7.0, RUNNING_REQUESTS: None})
            layer.store.upsert(B)
            assert np.isnan(layer.value(WAITING_REQUESTS)), "it would never become stale"

    async def test_an_extractor_that_fails_to_open_or_close_leaves_the_others_and_the_discovery_alone(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class FailingExtractor(MappingExtractor, type="failing-extractor"):
            def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
                if endpoint.name == "a":
                    raise RuntimeError("cannot open")

                class Reader(EndpointExtractor):
                    def extract(self, payload: Any) -> None:
                        return None

                    def close(self) -> None:
                        raise RuntimeError("cannot close")

                return Reader()

        source, discovery = ScriptedSource(), scripted(listing(A, B))
        async with running(discovery, sources=[(source, [FailingExtractor(), MappingExtractor()])]) as layer:
            await until(lambda: len(source.receivers) == 2)
            assert source.receivers["a"].deliver({WAITING_REQUESTS: 1.0})
            discovery.notifiers[0].replace_all([])
            assert layer.names() == set()
        messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert messages == [
            "endpoint a: failing-extractor: open() failed; its columns stay unknown",
            "endpoint b: failing-extractor: close() failed",
        ]

    async def test_an_extractor_without_columns_updates_nothing(self) -> None:
        source, index = ScriptedSource(), MappingExtractor()
        index.columns = ()
        async with running(scripted(listing(A)), sources=[(source, [index])]) as layer:
            await until(lambda: "a" in source.receivers)
            assert source.receivers["a"].deliver(None)
            assert np.isnan(layer.value(WAITING_REQUESTS))

    async def test_one_unreadable_payload_does_not_keep_other_extractors_from_reading_it(self) -> None:
        class Picky(MappingExtractor, type="picky"):
            def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
                class Reader(EndpointExtractor):
                    def extract(self, payload: Any) -> EndpointUpdate:
                        raise DataSourceError("never")

                return Reader()

        source = ScriptedSource()
        async with running(scripted(listing(A)), sources=[(source, [Picky(), MappingExtractor()])]) as layer:
            await until(lambda: "a" in source.receivers)
            assert not source.receivers["a"].deliver({WAITING_REQUESTS: 1.0})
            assert layer.failures == [("scripted-source", "picky")]
