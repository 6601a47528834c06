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
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor, MetricsDataSource
from epp.datalayer.scrape.scraper import Scraper
from epp.datastore.endpoint_store import EndpointStore
from epp.tasks import Tasks

Handler = Callable[["ModelServer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="session")
def capture() -> bytes:
    """The page of a vLLM under load: 16 running, 24 waiting, three LoRA combinations."""
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
    """On uvloop, as the product runs; what reads sockets on asyncio's own loop besides."""
    factories = {"uvloop": uvloop.new_event_loop}
    return factories if item.path.name != "test_scraper.py" else {**factories, "asyncio": asyncio.new_event_loop}


class ModelServer:
    """Serves /metrics as `handler` says; counts connections and requests."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.requests: list[bytes] = []

    async def serve(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._handler(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))


class Harness:
    """A scraper, its table, and moments to wait for."""

    def __init__(self, **options: float) -> None:
        self.clock = SystemClock()
        self.table = EndpointStore(self.clock, staleness=options.pop("staleness", 60.0))
        self.tasks = Tasks("test")
        self.faults: list[str] = []
        self.servers: list[ModelServer] = []
        self.scraper = Scraper(
            self.table,
            options.pop("source", None) or MetricsDataSource(),
            CoreMetricsExtractor(),
            self.clock,
            self.tasks,
            Random(1),
            0.002,
            longest_pause=options.pop("longest_pause", 0.01),
            on_fault=self._fault,
            **options,
        )
        self.scrapes: dict[int, int] = defaultdict(int)
        self._news = asyncio.Condition()
        self.table.on_scraped(self._scraped)

    def _scraped(self, slot: int, started: float) -> None:
        self.scrapes[slot] += 1
        self.tasks.spawn("notify", self._notify())

    def _fault(self, fault: str) -> None:
        self.faults.append(fault)
        self.tasks.spawn("notify", self._notify())

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once a scrape or a failure has made the condition true."""
        async with self._news:
            await self._news.wait_for(condition)

    def add(self, port: int, name: str = "a", **labels: str) -> int:
        return self.table.upsert(Endpoint(name=name, address="127.0.0.1", port=port, labels=labels))

    def value(self, slot: int, column=WAITING_REQUESTS) -> float:
        return float(self.table.snapshot().columns[column][slot])

    async def serve(self, handler: Handler, tls: ssl.SSLContext | None = None) -> ModelServer:
        server = ModelServer(handler)
        await server.serve(tls)
        self.servers.append(server)
        return server

    async def close(self) -> None:
        self.scraper.close()
        await self.tasks.close()
        for server in self.servers:
            await server.close()


@pytest.fixture
def scraping():
    """`async with scraping(handler) as (harness, server, slot)`: a scraper at work on one server."""

    @asynccontextmanager
    async def scraping(
        handler: Handler, tls: ssl.SSLContext | None = None, **options
    ) -> AsyncIterator[tuple[Harness, ModelServer, int]]:
        harness = Harness(**options)
        server = await harness.serve(handler, tls)
        slot = harness.add(server.port)
        harness.scraper.start()
        try:
            yield harness, server, slot
        finally:
            await harness.close()

    return scraping
