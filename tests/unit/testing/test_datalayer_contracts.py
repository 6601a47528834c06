"""The contract checks of the data layer accept sound plugins and reject those that break a rule."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from epp.api import (
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
    EndpointUpdate,
    Extractor,
    MetricsPage,
)
from epp.datalayer.discovery.dns import DnsDiscovery
from epp.datalayer.discovery.file import FileDiscovery
from epp.datalayer.discovery.static import StaticDiscovery
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor
from epp.datalayer.scrape.metrics_data_source import MetricsDataSource
from epp.testing import check_data_source, check_discovery, check_extractor

A = Endpoint(name="a", address="10.0.0.1", port=8000)
PAGE = (Path(__file__).parents[2] / "data/vllm/metrics_under_load.txt").read_bytes()


@pytest.fixture
def metrics_server() -> Iterator[Endpoint]:
    """A thread that serves a vLLM's page."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Endpoint(name="served", address="127.0.0.1", port=server.server_address[1])
    server.shutdown()
    server.server_close()
    thread.join()


def test_our_discoveries_keep_the_contract(tmp_path: Path) -> None:
    assert [e.target for e in check_discovery(StaticDiscovery(targets=["10.0.0.1:1"]))] == ["10.0.0.1:1"]
    assert [e.target for e in check_discovery(DnsDiscovery(target="127.0.0.1:8000"))] == ["127.0.0.1:8000"]
    path = tmp_path / "pool.yaml"
    path.write_text("endpoints: [{name: a, address: 10.0.0.2, port: '1'}]")
    for watch in (False, True):
        listed = check_discovery(FileDiscovery(path=str(path), watch_file=watch))
        assert [endpoint.name for endpoint in listed] == ["default/a"]


def test_our_metrics_scrape_keeps_the_contract(metrics_server: Endpoint) -> None:
    check_data_source(MetricsDataSource(), metrics_server)


def test_our_extractor_keeps_the_contract() -> None:
    pages = [MetricsPage(page, 0, len(page)) for page in (PAGE, PAGE.replace(b"} 24.0", b"} 25.0"), PAGE)]
    check_extractor(CoreMetricsExtractor(), pages, malformed=[MetricsPage(b"up 1\n", 0, 5)])


class ScriptedDiscovery(Discovery):
    """`run` is `script`."""

    def __post_init__(self) -> None:
        self.runs = 0
        self.script: Callable[[DiscoveryNotifier], Any] = lambda notifier: None

    async def run(self, notifier: DiscoveryNotifier) -> None:
        self.runs += 1
        await self.script(notifier)


async def list_nothing(notifier: DiscoveryNotifier) -> None:
    await asyncio.Event().wait()


async def list_twice_the_same(notifier: DiscoveryNotifier) -> None:
    notifier.replace_all([A, A])


async def list_a_name(notifier: DiscoveryNotifier) -> None:
    notifier.replace_all([Endpoint(name="a", address="vllm.default.svc", port=1)])


async def list_port_zero(notifier: DiscoveryNotifier) -> None:
    notifier.replace_all([Endpoint(name="a", address="10.0.0.1", port=0)])


async def list_no_endpoint(notifier: DiscoveryNotifier) -> None:
    notifier.upsert("10.0.0.1:8000")  # type: ignore[arg-type]
    notifier.mark_synced()


async def raise_an_error(notifier: DiscoveryNotifier) -> None:
    raise ConnectionError("refused")


async def suppress_cancellation(notifier: DiscoveryNotifier) -> None:
    notifier.replace_all([A])
    while True:
        try:
            await asyncio.sleep(1.1)
        except asyncio.CancelledError:
            continue
        return


async def return_when_cancelled(notifier: DiscoveryNotifier) -> None:
    notifier.replace_all([A])
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def fail_when_cancelled(notifier: DiscoveryNotifier) -> None:
    notifier.replace_all([A])
    try:
        await asyncio.Event().wait()
    finally:
        raise ConnectionResetError("closing failed")


async def report_after_the_end(notifier: DiscoveryNotifier) -> None:
    notifier.replace_all([A])
    asyncio.get_running_loop().call_later(0.02, notifier.delete, "a")


class ForgetfulDiscovery(ScriptedDiscovery):
    """Lists only in its first run."""

    async def run(self, notifier: DiscoveryNotifier) -> None:
        self.runs += 1
        notifier.replace_all([A] if self.runs == 1 else [])


def check_script(script: Callable[[DiscoveryNotifier], Any]) -> None:
    discovery = ScriptedDiscovery()
    discovery.script = script
    check_discovery(discovery, timeout=0.2)


@pytest.mark.parametrize(
    ("script", "rule"),
    [
        (list_nothing, r"no first list within 0\.2 s"),
        (list_twice_the_same, "lists two endpoints of one name"),
        (list_a_name, r"endpoint a: invalid IP address 'vllm\.default\.svc'"),
        (list_port_zero, "endpoint a: invalid port 0"),
        (list_no_endpoint, "which is not an Endpoint|has no attribute 'name'"),
        (raise_an_error, r"run\(\) raised ConnectionError\('refused'\)"),
        (suppress_cancellation, r"run\(\) does not end within 1 s when it is cancelled"),
        (return_when_cancelled, r"run\(\) returns when it is cancelled: it suppresses CancelledError"),
        (fail_when_cancelled, r"run\(\) raises ConnectionResetError\('closing failed'\) when it is cancelled"),
        (report_after_the_end, r"reports endpoints after run\(\) has ended"),
    ],
)
def test_discoveries_that_break_a_rule(script: Callable[[DiscoveryNotifier], Any], rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        check_script(script)


def test_a_discovery_must_list_again_when_it_is_run_again() -> None:
    with pytest.raises(AssertionError, match=r"lists \[\] when it is run again, \['a'\] before"):
        check_discovery(ForgetfulDiscovery())


class TickingSource(DataSource, type="ticking-source"):
    """Delivers every few milliseconds, for endpoints at port 8000 only."""

    payload_type = int
    payload: Any = 1

    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        if endpoint.port != 8000:
            raise ConnectionError("refused")
        while True:
            receiver.deliver(self.payload)
            await asyncio.sleep(0.005)


class CentralSource(DataSource, type="central-source"):
    """One subscription for all endpoints."""

    def start(self, context: DataSourceContext) -> None:
        self._context = context

    async def run(self) -> None:
        while True:
            receiver = self._context.receiver("a")
            assert receiver is not None
            receiver.deliver(1, self._context.clock.now())
            await asyncio.sleep(0.005)


class IdleSource(DataSource):
    pass


class WallClockSource(TickingSource):
    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        while True:
            receiver.deliver(1, 1.7e9)
            await asyncio.sleep(0.005)


class UnfilteredSource(TickingSource):
    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        while True:
            receiver.deliver(1)
            await asyncio.sleep(0.005)


class DetachedSource(TickingSource):
    """Leaves the work to a task that outlives the call."""

    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        self.task = asyncio.ensure_future(super().run_endpoint(endpoint, receiver))
        await asyncio.Event().wait()


class UncleanSource(TickingSource):
    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        try:
            await super().run_endpoint(endpoint, receiver)
        except asyncio.CancelledError:
            raise ConnectionResetError("closing failed") from None


class LeakySource(TickingSource):
    def start(self, context: DataSourceContext) -> None:
        self.task = asyncio.ensure_future(asyncio.sleep(60))
        self.task.set_name("forgotten")


class FailingSource(TickingSource):
    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        raise ConnectionError("refused")


@pytest.mark.parametrize("source", [TickingSource(), CentralSource()], ids=lambda source: source.type)
def test_sound_data_sources(source: DataSource) -> None:
    check_data_source(source, A)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (IdleSource(), r"implements neither run\(\) nor run_endpoint\(\)"),
        (TickingSource(payload="text"), "delivers str, not `payload_type` int"),
        (WallClockSource(), "monotonic seconds are expected"),
        (UnfilteredSource(), "delivers payloads for an endpoint that refuses connections"),
        (DetachedSource(), r"delivers payloads after run_endpoint\(\) has ended"),
        (UncleanSource(), r"run_endpoint\(\) raises ConnectionResetError\('closing failed'\) when it is cancelled"),
        (LeakySource(), "leaves tasks behind: forgotten"),
        (FailingSource(), r"raised ConnectionError\('refused'\) for a reachable endpoint"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, DataSource) else "",
)
def test_data_sources_that_break_a_rule(source: DataSource, rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        check_data_source(source, A, timeout=0.3)


POWER = Column("power", "watts", "power draw")


class PowerExtractor(Extractor, type="power-extractor"):
    """`read` turns a payload into an update."""

    payload_type = str
    columns = (POWER,)

    def __post_init__(self) -> None:
        self.read: Callable[[Any], Any] = read_watts

    def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
        return PowerReader(self, slot)


class PowerReader(EndpointExtractor):
    def __init__(self, extractor: PowerExtractor, slot: int) -> None:
        self._extractor = extractor
        self._slot = slot

    def extract(self, payload: Any) -> EndpointUpdate | None:
        update: EndpointUpdate | None = self._extractor.read(payload)
        return update


def read_watts(payload: str) -> EndpointUpdate | None:
    try:
        return EndpointUpdate({POWER: float(payload)}) if payload else None
    except ValueError:
        raise DataSourceError(f"{payload!r} is not a number") from None


def test_a_sound_extractor() -> None:
    check_extractor(PowerExtractor(), ["300", "nan", ""], malformed=["many"])


@pytest.mark.parametrize(
    ("read", "rule"),
    [
        (lambda payload: {POWER: 1.0}, "which is not an EndpointUpdate"),
        (lambda payload: EndpointUpdate({WAITING_REQUESTS: 1.0}), "which `columns` does not list"),
        (lambda payload: EndpointUpdate({POWER: float("inf")}), "power is inf: a finite number, or NaN"),
        (lambda payload: EndpointUpdate({POWER: None}), "power is None"),
        (lambda payload: EndpointUpdate({POWER: float(payload)}), "raises ValueError.* which is not a DataSourceError"),
        (lambda payload: EndpointUpdate({POWER: 0.0}), "a malformed payload is not rejected: 'many'"),
    ],
)
def test_extractors_that_break_a_rule(read: Callable[[Any], Any], rule: str) -> None:
    extractor = PowerExtractor()
    extractor.read = read
    with pytest.raises(AssertionError, match=rule):
        check_extractor(extractor, ["300"], malformed=["many"])


def test_state_shared_between_endpoints_breaks_a_rule() -> None:
    extractor = PowerExtractor()
    seen: list[str] = []

    def count(payload: str) -> EndpointUpdate:
        seen.append(payload)
        return EndpointUpdate({POWER: float(len(seen))})

    extractor.read = count
    with pytest.raises(AssertionError, match=r"for one endpoint and .* for another"):
        check_extractor(extractor, ["300"])


def test_payloads_must_be_of_the_payload_type() -> None:
    with pytest.raises(AssertionError, match="a payload is bytes, not `payload_type` str"):
        check_extractor(PowerExtractor(), [b"300"])
