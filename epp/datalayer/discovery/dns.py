"""Endpoints from DNS: every address of a name, a headless Kubernetes service for one, at one port."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable

from epp.address import split_host_port
from epp.api import Endpoint
from epp.datalayer.endpoint_union import EndpointUnion
from epp.errors import ConfigError, DataSourceError, Problem
from epp.tasks import Tasks

log = logging.getLogger("epp.dns")

RESOLVE_INTERVAL_SECONDS = 5.0
RESOLVE_TIMEOUT_SECONDS = 5.0

ResolveAddresses = Callable[[str, int], Awaitable[Iterable[str]]]
"""Name and port to addresses; OSError if it cannot be resolved."""


async def start_dns_discovery(
    target: str,
    membership: EndpointUnion,
    tasks: Tasks,
    *,
    interval: float = RESOLVE_INTERVAL_SECONDS,
    resolve: ResolveAddresses | None = None,
) -> None:
    """Resolves the name of `NAME:PORT` now and every `interval` seconds. ConfigError if `target` is no such thing.

    While the name cannot be resolved the last addresses stay, none at first.
    """
    try:
        name, port = split_host_port(target)
        name.encode("idna")  # what the resolver will do; it tells labels that are empty or too long
    except ValueError as error:
        raise ConfigError([Problem(f"--dns {target}", str(error))]) from None
    names = DnsDiscovery(name, port, membership, resolve or resolve_addresses)
    await names.resolve_once()
    tasks.supervise(f"resolve {name}", lambda: names.poll(interval))


async def resolve_addresses(name: str, port: int) -> Iterable[str]:
    """What the system's resolver says."""
    answers = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in answers]


class DnsDiscovery:
    """One name, resolved again and again."""

    def __init__(self, name: str, port: int, membership: EndpointUnion, resolve: ResolveAddresses) -> None:
        self._name = name
        self._port = port
        self._membership = membership
        self._resolve = resolve
        self._last_addresses: tuple[str, ...] | None = None
        self._failing = False

    async def poll(self, interval: float) -> None:
        """Never ends."""
        while True:
            await asyncio.sleep(interval)
            await self.resolve_once()

    async def resolve_once(self) -> None:
        """Resolves once; a failure is logged when it begins and when it ends, and changes nothing."""
        try:
            found = await self._resolve_with_timeout()
        except DataSourceError as error:
            if not self._failing:
                log.warning("%s: %s; the last addresses stay", self._name, error)
            self._failing = True
            return
        if self._failing or found != self._last_addresses:
            log.info("%s: %d addresses", self._name, len(found))
        self._failing = False
        if found != self._last_addresses:
            self._last_addresses = found
            self._membership.set_endpoints(
                f"{self._name}:{self._port}", [self._build_endpoint(address) for address in found]
            )

    async def _resolve_with_timeout(self) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
                found = tuple(sorted(set(await self._resolve(self._name, self._port))))
        except TimeoutError:
            raise DataSourceError("no answer from the resolver") from None
        except OSError as error:
            raise DataSourceError(f"cannot be resolved: {error.strerror or error}") from error
        if not found:
            raise DataSourceError("has no addresses")
        return found

    def _build_endpoint(self, address: str) -> Endpoint:
        target = Endpoint(name="", address=address, port=self._port).target
        return Endpoint(name=f"{self._name}/{target}", address=address, port=self._port, pod=target)
