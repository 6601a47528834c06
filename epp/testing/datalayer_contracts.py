"""Contract checks for discoveries, data sources and extractors.

    def test_contract():
        check_discovery(FileDiscovery(path="pool.yaml"))

The checks run event loops of their own: call them from synchronous tests. Servers that a plugin talks to run in another
thread or process.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, Final

from epp.address import parse_ip_literal
from epp.api import (
    Column,
    DataSource,
    DataSourceError,
    Discovery,
    Endpoint,
    EndpointExtractor,
    EndpointReceiver,
    EndpointUpdate,
    Extractor,
    LoraAdapters,
)
from epp.clock import Clock, SystemClock
from epp.tasks import Tasks
from epp.testing.contracts import ContractCheck

CANCEL_SECONDS: Final = 1.0
"""How long a cancelled call may take to end."""
SILENCE_SECONDS: Final = 0.1
"""How long a call that has ended is watched for reports that it may no longer make."""
REFUSING_ENDPOINT: Final = Endpoint(name="refusing", address="127.0.0.1", port=1)
"""Refuses connections; nothing may be delivered for it."""
EXTRACTED_ENDPOINTS: Final = (
    Endpoint(name="e0", address="10.0.0.1", port=8000),
    Endpoint(name="e1", address="10.0.0.2", port=8000),
)


def check_discovery(discovery: Discovery, *, timeout: float = 5.0) -> list[Endpoint]:
    """Runs the discovery twice, as after a failure; returns the endpoints that it lists.

    Each run must deliver a first list within `timeout` seconds, of endpoints that a proxy can route to, with names that
    occur once; both runs the same, so what is discovered must not change meanwhile. Cancelled, a run must end within a
    second, by CancelledError or because it had returned, and report nothing afterwards.
    """
    check = ContractCheck(discovery, Discovery)
    first, second = asyncio.run(_run_discovery_twice(check, discovery, timeout))
    check.require(first == second, f"lists {sorted(second)} when it is run again, {sorted(first)} before")
    return list(first.values())


def check_data_source(source: DataSource, endpoint: Endpoint, *, deliveries: int = 2, timeout: float = 5.0) -> None:
    """Runs the source for `endpoint`, which must be reachable, and for one that refuses connections.

    The source must implement `run` or `run_endpoint`, and deliver `deliveries` payloads of its `payload_type` for the
    endpoint within `timeout` seconds, none for the other. `run_endpoint`, cancelled and called again as after a change
    of labels, must deliver again. Cancelled calls must end within a second and deliver nothing afterwards; `close` must
    leave no task behind.
    """
    check = ContractCheck(source, DataSource)
    implemented = any(
        getattr(type(source), method) is not getattr(DataSource, method) for method in ("run", "run_endpoint")
    )
    check.require(implemented, "implements neither run() nor run_endpoint()")
    asyncio.run(_run_data_source(check, source, endpoint, deliveries, timeout))


def check_extractor(extractor: Extractor, payloads: Sequence[Any], *, malformed: Sequence[Any] = ()) -> None:
    """Feeds the payloads, in order, to extractors of two endpoints by turns.

    Updates may have columns that `columns` lists, and numbers or NaN as values; both endpoints must get the same, as
    state is kept by endpoint. Each of `malformed` must raise DataSourceError, and leave the extractor able to read the
    payloads. `close` must not raise.
    """
    check = ContractCheck(extractor, Extractor)
    for column in extractor.columns:
        check.require(isinstance(column, Column), f"`columns` lists {column!r}, which is not a Column")
    opened = [
        check.require_no_error(f"by open() for slot {slot}", extractor.open, endpoint, slot)
        for slot, endpoint in enumerate(EXTRACTED_ENDPOINTS)
    ]
    for one in opened:
        check.require(isinstance(one, EndpointExtractor), f"open() returns {one!r}, which is not an EndpointExtractor")
    check.require(opened[0] is not opened[1], "open() returns one EndpointExtractor for two endpoints")
    _extract_by_turns(check, extractor, opened, payloads)
    for payload in malformed:
        try:
            opened[0].extract(payload)
        except DataSourceError:
            continue
        except Exception as error:
            check.require(False, f"a malformed payload raises {error!r}, which is not a DataSourceError")
        check.require(False, f"a malformed payload is not rejected: {payload!r:.80}")
    if malformed:
        for payload in payloads:
            update = check.require_no_error("by extract() after a malformed payload", opened[0].extract, payload)
            _check_update(check, extractor, update)
    for one in opened:
        check.require_no_error("by close()", one.close)


def _extract_by_turns(
    check: ContractCheck, extractor: Extractor, opened: Sequence[EndpointExtractor], payloads: Sequence[Any]
) -> None:
    for payload in payloads:
        check.require(
            isinstance(payload, extractor.payload_type),
            f"a payload is {type(payload).__name__}, not `payload_type` {extractor.payload_type.__name__}",
        )
        first, second = (check.require_no_error("by extract()", one.extract, payload) for one in opened)
        for update in (first, second):
            _check_update(check, extractor, update)
        check.require(_is_same_update(first, second), f"extracts {first} for one endpoint and {second} for another")


def _check_update(check: ContractCheck, extractor: Extractor, update: Any) -> None:
    if update is None:
        return
    check.require(isinstance(update, EndpointUpdate), f"extract() returns {update!r}, which is not an EndpointUpdate")
    foreign = ", ".join(str(column) for column in update.values if column not in extractor.columns)
    check.require(not foreign, f"writes {foreign}, which `columns` does not list")
    for column, value in update.values.items():
        is_number = isinstance(value, int | float) and not math.isinf(value)
        check.require(is_number, f"{column.name} is {value!r}: a finite number, or NaN for unknown, is expected")
    is_valid = update.lora_adapters is None or isinstance(update.lora_adapters, LoraAdapters)
    check.require(is_valid, f"lora_adapters is {update.lora_adapters!r}, which is neither None nor LoraAdapters")


def _is_same_update(one: EndpointUpdate | None, other: EndpointUpdate | None) -> bool:
    """Whether the updates are equal, NaN equal to NaN."""
    if one is None or other is None:
        return one is other
    comparable = [
        {column: None if math.isnan(value) else float(value) for column, value in update.values.items()}
        for update in (one, other)
    ]
    return comparable[0] == comparable[1] and one.lora_adapters == other.lora_adapters


class _ListRecorder:
    """A DiscoveryNotifier that keeps what the pool would have."""

    def __init__(self, check: ContractCheck) -> None:
        self._check = check
        self.endpoints: dict[str, Endpoint] = {}
        self.synced = asyncio.Event()
        self.calls = 0

    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        listed = list(endpoints)
        self.endpoints = {endpoint.name: endpoint for endpoint in listed}
        self._check.require(len(self.endpoints) == len(listed), "lists two endpoints of one name")
        self.mark_synced()

    def upsert(self, endpoint: Endpoint) -> None:
        self.calls += 1
        self.endpoints[endpoint.name] = endpoint

    def delete(self, name: str) -> None:
        self.calls += 1
        self.endpoints.pop(name, None)

    def mark_synced(self) -> None:
        self.calls += 1
        self.synced.set()


async def _run_discovery_twice(
    check: ContractCheck, discovery: Discovery, seconds: float
) -> tuple[dict[str, Endpoint], dict[str, Endpoint]]:
    first = await _run_discovery(check, discovery, seconds)
    return first, await _run_discovery(check, discovery, seconds)


async def _run_discovery(check: ContractCheck, discovery: Discovery, seconds: float) -> dict[str, Endpoint]:
    recorder = _ListRecorder(check)
    tasks = Tasks("check_discovery")
    run, synced = tasks.spawn("run", discovery.run(recorder)), tasks.spawn("synced", recorder.synced.wait())
    try:
        await asyncio.wait({run, synced}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if run.done() and not run.cancelled() and (error := run.exception()) is not None:
            if isinstance(error, AssertionError):
                raise error
            check.require(False, f"run() raised {error!r}")
        check.require(recorder.synced.is_set(), f"no first list within {seconds:g} s")
        for endpoint in recorder.endpoints.values():
            _check_endpoint(check, endpoint)
    finally:
        synced.cancel()
        await _cancel_call(check, run, "run()")
    calls = recorder.calls
    await asyncio.sleep(SILENCE_SECONDS)
    check.require(recorder.calls == calls, "reports endpoints after run() has ended")
    return recorder.endpoints


def _check_endpoint(check: ContractCheck, endpoint: Any) -> None:
    check.require(isinstance(endpoint, Endpoint), f"reports {endpoint!r}, which is not an Endpoint")
    check.require(bool(endpoint.name), f"reports an endpoint without a name: {endpoint.target}")
    try:
        address = parse_ip_literal(endpoint.address)
    except ValueError as error:
        check.require(False, f"endpoint {endpoint.name}: {error}")
    else:
        check.require(
            address == endpoint.address, f"endpoint {endpoint.name}: write {endpoint.address!r} as {address!r}"
        )
    check.require(1 <= endpoint.port <= 65535, f"endpoint {endpoint.name}: invalid port {endpoint.port}")


class _RecordingReceiver:
    """An EndpointReceiver that counts, and checks types."""

    def __init__(self, check: ContractCheck, source: DataSource, endpoint: Endpoint, clock: Clock) -> None:
        self._check = check
        self._source = source
        self._clock = clock
        self.endpoint = endpoint
        self.failures = 0
        self.delivered = asyncio.Semaphore(0)
        self.count = 0
        self.broken_rule: AssertionError | None = None

    def deliver(self, payload: Any, observed_at: float | None = None) -> bool:
        self.failures = 0
        self.count += 1
        try:
            self._check.require(
                isinstance(payload, self._source.payload_type),
                f"delivers {type(payload).__name__}, not `payload_type` {self._source.payload_type.__name__}",
            )
            if observed_at is not None:
                age = self._clock.now() - observed_at
                self._check.require(0 <= age < 3600, f"observed_at is {age:g} s ago: monotonic seconds are expected")
        except AssertionError as error:  # raised where the check waits, not inside the source
            self.broken_rule = error
        self.delivered.release()
        return True

    def record_failure(self, reason: str) -> None:
        self.failures += 1


class _CheckContext:
    """A DataSourceContext with the endpoints of the check."""

    def __init__(self, receivers: Sequence[_RecordingReceiver]) -> None:
        self.clock = SystemClock()
        self.rng = Random(1)
        self.refresh_interval = 0.05
        self._receivers = receivers

    def receiver(self, endpoint_name: str) -> EndpointReceiver | None:
        return next((each for each in self._receivers if each.endpoint.name == endpoint_name), None)

    def receivers(self) -> Sequence[EndpointReceiver]:
        return self._receivers


async def _run_data_source(
    check: ContractCheck, source: DataSource, endpoint: Endpoint, deliveries: int, seconds: float
) -> None:
    clock = SystemClock()
    receiver = _RecordingReceiver(check, source, endpoint, clock)
    refused = _RecordingReceiver(check, source, REFUSING_ENDPOINT, clock)
    check.require_no_error("by start()", source.start, _CheckContext([receiver, refused]))
    tasks = Tasks("check_data_source")
    run = tasks.spawn("run", source.run())
    refused_call = tasks.spawn("run_endpoint", source.run_endpoint(REFUSING_ENDPOINT, refused))
    try:
        for _ in range(2):
            call = tasks.spawn("run_endpoint", source.run_endpoint(endpoint, receiver))
            try:
                await _await_deliveries(check, receiver, [call, run], deliveries, seconds)
            finally:
                await _cancel_call(check, call, "run_endpoint()")
            if type(source).run is DataSource.run:
                count = receiver.count
                await asyncio.sleep(SILENCE_SECONDS)
                check.require(receiver.count == count, "delivers payloads after run_endpoint() has ended")
        check.require(refused.count == 0, "delivers payloads for an endpoint that refuses connections")
    finally:
        await _cancel_call(check, refused_call, "run_endpoint() of an endpoint that refuses connections")
        await _cancel_call(check, run, "run()")
        await source.close()
    leftover_tasks = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()} if not task.done()]
    check.require(not leftover_tasks, f"leaves tasks behind: {', '.join(leftover_tasks)}")


async def _await_deliveries(
    check: ContractCheck,
    receiver: _RecordingReceiver,
    calls: Sequence[asyncio.Future[Any]],
    deliveries: int,
    seconds: float,
) -> None:
    try:
        async with asyncio.timeout(seconds):
            for _ in range(deliveries):
                await receiver.delivered.acquire()
    except TimeoutError:
        for call in calls:
            error = None if not call.done() or call.cancelled() else call.exception()
            check.require(error is None, f"raised {error!r} for a reachable endpoint")
        reasons = f" and {receiver.failures} failures" if receiver.failures else ""
        check.require(False, f"{receiver.count} payloads{reasons} in {seconds:g} s, not {deliveries}")
    if receiver.broken_rule is not None:
        raise receiver.broken_rule


async def _cancel_call(check: ContractCheck, call: asyncio.Future[Any], name: str) -> None:
    """Cancels the call; it must end in time, and by CancelledError: not suppressed, nor replaced by another error."""
    was_running = not call.done()
    call.cancel()
    await asyncio.wait({call}, timeout=CANCEL_SECONDS)
    check.require(call.done(), f"{name} does not end within {CANCEL_SECONDS:g} s when it is cancelled")
    if was_running and not call.cancelled():
        error = call.exception()
        check.require(error is None, f"{name} raises {error!r} when it is cancelled, instead of CancelledError")
        check.require(False, f"{name} returns when it is cancelled: it suppresses CancelledError")
