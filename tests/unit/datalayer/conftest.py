import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from epp.api import WAITING_REQUESTS, Endpoint
from epp.clock import SystemClock
from epp.config.plan import PlannedDataSource
from epp.datalayer.runtime import DataLayer
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor
from epp.datalayer.scrape.metrics_data_source import MetricsDataSource
from epp.datastore.endpoint_store import EndpointStore
from epp.tasks import Tasks

Handler = Callable[["ModelServer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="session")
def capture() -> bytes:
    """Metrics page of a vLLM under load: 16 running and 24 waiting requests, three combinations of LoRA adapters."""
    return (Path(__file__).parents[2] / "data/vllm/metrics_under_load.txt").read_bytes()


@pytest.fixture
def labelled():
    """An endpoint with labels: labelled("sglang") or labelled(**{"key": "value"})."""

    def build(engine_type: str = "", /, **labels: str) -> Endpoint:
        if engine_type:
            labels["llm-d.ai/engine-type"] = engine_type
        return Endpoint(name="a", address="10.0.0.1", port=8000, labels=labels)

    return build


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "model server")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


def pytest_asyncio_loop_factories(config, item):
    """Runs tests on uvloop, like the product; those of the scraper, which reads sockets, on asyncio's own loop too."""
    factories = {"uvloop": uvloop.new_event_loop}
    return factories if item.path.name != "test_scraper.py" else {**factories, "asyncio": asyncio.new_event_loop}


class ModelServer:
    """Serves connections with `handler`; counts connections and requests."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.requests: list[bytes] = []

    async def serve(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._handler(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))


class ScrapeHarness:
    """A data layer that scrapes, its endpoint store, and conditions to wait for."""

    def __init__(
        self,
        source: MetricsDataSource | None = None,
        *,
        staleness: float = 60.0,
        timeout: float = 1.0,
        max_backoff: float = 0.01,
    ) -> None:
        clock = SystemClock()
        self.store = EndpointStore(clock, staleness)
        self.failures: list[tuple[str, str]] = []
        self.servers: list[ModelServer] = []
        self.source = source or MetricsDataSource()
        self.source.timeout_seconds = timeout
        self.source.max_backoff_seconds = max_backoff
        planned = PlannedDataSource("metrics", self.source, [("core", CoreMetricsExtractor())])
        self.data_layer = DataLayer(
            self.store,
            clock,
            Random(1),
            refresh_interval=0.002,
            data_sources=[planned],
            on_failure=self._on_failure,
        )
        self.scrapes: dict[int, int] = defaultdict(int)
        self._tasks = Tasks("test")
        self._changed = asyncio.Condition()
        self.store.on_scraped(self._on_scraped)

    def _on_scraped(self, slot: int, started_at: float) -> None:
        self.scrapes[slot] += 1
        self._tasks.spawn("notify", self._notify())

    def _on_failure(self, source_type: str, extractor_type: str) -> None:
        self.failures.append((source_type, extractor_type))
        self._tasks.spawn("notify", self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once a scrape or a failure has made the condition true."""
        async with self._changed:
            await self._changed.wait_for(condition)

    def consecutive_failures(self, name: str = "a") -> int:
        receiver = self.data_layer._sources[0].receiver(name)
        assert receiver is not None
        return receiver.failures

    def add(self, port: int, name: str = "a", **labels: str) -> int:
        return self.store.upsert(Endpoint(name=name, address="127.0.0.1", port=port, labels=labels))

    def value(self, slot: int, column=WAITING_REQUESTS) -> float:
        return float(self.store.snapshot().columns[column][slot])

    async def serve(self, handler: Handler, tls: ssl.SSLContext | None = None) -> ModelServer:
        server = ModelServer(handler)
        await server.serve(tls)
        self.servers.append(server)
        return server

    async def close(self) -> None:
        await self.data_layer.close()
        await self._tasks.close()
        for server in self.servers:
            await server.close()


@pytest.fixture
def scraping():
    """`async with scraping(handler) as (harness, server, slot)`: one server, being scraped."""

    @asynccontextmanager
    async def scraping(
        handler: Handler, tls: ssl.SSLContext | None = None, **options
    ) -> AsyncIterator[tuple[ScrapeHarness, ModelServer, int]]:
        harness = ScrapeHarness(**options)
        server = await harness.serve(handler, tls)
        await harness.data_layer.start()
        slot = harness.add(server.port)
        try:
            yield harness, server, slot
        finally:
            await harness.close()

    return scraping
