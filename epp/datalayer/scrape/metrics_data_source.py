"""The plugin `metrics-data-source`: fetches the metrics page of every endpoint."""

from __future__ import annotations

import ssl
from typing import Annotated, ClassVar

import msgspec

from epp.api import DataSource, DataSourceContext, Endpoint, EndpointReceiver, MetricsPage
from epp.config.durations import parse_duration
from epp.config.schema import Duration
from epp.datalayer.scrape.scraper import Scraper
from epp.errors import ConfigError, Problem

MetricsPort = Annotated[int, msgspec.Meta(ge=1, le=65535)]
MetricsPortText = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,5})?$")]


class MetricsDataSource(DataSource, type="metrics-data-source"):
    """Fetch the metrics page of every endpoint.

    `port` replaces the endpoint's own; `interval` the one of `--refresh-metrics-interval`. With `scheme` https the
    server's certificate is verified only if `insecureSkipVerify` is false, against `caCertPath` or the system's.
    """

    payload_type = MetricsPage
    timeout_seconds: ClassVar[float] = 1.0
    max_backoff_seconds: ClassVar[float] = 2.0

    scheme: Annotated[str, msgspec.Meta(pattern="^https?$")] = "http"
    path: Annotated[str, msgspec.Meta(pattern=r"^\S+$")] = "/metrics"
    port: MetricsPort | MetricsPortText | None = None
    insecure_skip_verify: bool = True
    ca_cert_path: str = ""
    client_cert_path: str = ""
    client_key_path: str = ""
    interval: Duration | None = None

    def __post_init__(self) -> None:
        if bool(self.client_cert_path) != bool(self.client_key_path):
            raise ValueError("`clientCertPath` and `clientKeyPath` must be given together")
        if self.port is not None and self.port != "" and not 1 <= int(self.port) <= 65535:
            raise ValueError(f"`port`: invalid port {self.port}: expected 1-65535")
        self.interval_seconds = parse_duration(self.interval) if self.interval else None
        """Seconds between scrapes; None: those of `--refresh-metrics-interval`."""
        if self.interval_seconds is not None and self.interval_seconds <= 0:
            raise ValueError("`interval` must be more than zero")
        self._scraper: Scraper | None = None

    @property
    def request_target(self) -> str:
        """The path as it stands in the request line."""
        return self.path if self.path.startswith("/") else f"/{self.path}"

    def metrics_port(self, endpoint: Endpoint) -> int:
        """The port that serves the page of an endpoint."""
        return int(self.port) if self.port else endpoint.port

    def start(self, context: DataSourceContext) -> None:
        """Creates the scraper that all endpoints share. ConfigError if a certificate cannot be used."""
        self._scraper = Scraper(
            context.clock,
            context.rng,
            context.refresh_interval if self.interval_seconds is None else self.interval_seconds,
            request_target=self.request_target,
            tls_context=create_tls_context(self) if self.scheme == "https" else None,
            timeout=self.timeout_seconds,
            max_backoff=self.max_backoff_seconds,
        )

    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        """Keeps the endpoint on the scraper's schedule; this task itself only connects."""
        assert self._scraper is not None, "start comes first"
        await self._scraper.scrape_until_cancelled(receiver, self.metrics_port(endpoint))

    async def close(self) -> None:
        """Stops the scraper's timer."""
        if self._scraper is not None:
            self._scraper.close()


def create_tls_context(source: MetricsDataSource) -> ssl.SSLContext:
    """A client context as the source's certificate parameters say; ConfigError if a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=source.ca_cert_path or None)
        if source.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if source.client_cert_path:
            context.load_cert_chain(source.client_cert_path, source.client_key_path)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (source.ca_cert_path, source.client_cert_path, source.client_key_path)))
        raise ConfigError([Problem("metrics-data-source", f"cannot use {files}: {error}")]) from error
    return context
