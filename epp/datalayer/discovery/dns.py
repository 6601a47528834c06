"""Endpoints from DNS: every address of a name, such as that of a headless Kubernetes Service, at one port."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable

from epp.address import join_host_port, split_host_port
from epp.api import Discovery, DiscoveryNotifier, Endpoint
from epp.errors import ConfigError, DataSourceError, Problem

log = logging.getLogger("epp.dns")

RESOLVE_INTERVAL_SECONDS = 5.0
RESOLVE_TIMEOUT_SECONDS = 5.0

ResolveAddresses = Callable[[str, int], Awaitable[Iterable[str]]]
"""Name and port to addresses; OSError if the name cannot be resolved."""


async def resolve_addresses(name: str, port: int) -> Iterable[str]:
    """The addresses that the system's resolver returns."""
    answers = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in answers]


class DnsDiscovery(Discovery):
    """The addresses of the name in `target`, NAME:PORT, resolved every `interval_seconds`.

    While the name cannot be resolved the pool keeps its last addresses. If the first resolution fails, for whatever
    reason, the first list is empty: a resolver that does not answer must not keep the picker, which may have endpoints
    of other discoveries, from being ready.
    """

    target: str
    interval_seconds: float = RESOLVE_INTERVAL_SECONDS

    def __post_init__(self) -> None:
        self.resolve: ResolveAddresses = resolve_addresses
        self._last_addresses: tuple[str, ...] | None = None

    async def run(self, notifier: DiscoveryNotifier) -> None:
        """Resolves until cancelled. ConfigError if `target` is not NAME:PORT. Logs changes only."""
        name, port = self._parse_target()
        reported: tuple[str, ...] | None = None  # by this run
        failing = False
        while True:
            try:
                addresses = await self._resolve_once(name, port)
            except DataSourceError as error:
                if not failing:
                    kept = "no endpoints yet" if self._last_addresses is None else "keeping the last addresses"
                    log.warning("%s: %s; %s", name, error, kept)
                failing = True
                addresses = self._last_addresses or ()
            else:
                if failing or addresses != self._last_addresses:
                    log.info("%s: %d addresses", name, len(addresses))
                self._last_addresses, failing = addresses, False
            if addresses != reported:
                notifier.replace_all([_build_endpoint(name, address, port) for address in addresses])
                reported = addresses
            await asyncio.sleep(self.interval_seconds)

    def _parse_target(self) -> tuple[str, int]:
        try:
            name, port = split_host_port(self.target)
            name.encode("idna")  # as the resolver will: rejects labels that are empty or too long
        except ValueError as error:
            raise ConfigError([Problem(f"--dns {self.target}", str(error))]) from None
        return name, port

    async def _resolve_once(self, name: str, port: int) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
                addresses = tuple(sorted(set(await self.resolve(name, port))))
        except TimeoutError:
            raise DataSourceError("no answer from the resolver") from None
        except OSError as error:
            raise DataSourceError(f"cannot be resolved: {error.strerror or error}") from error
        if not addresses:
            raise DataSourceError("has no addresses")
        return addresses


def _build_endpoint(name: str, address: str, port: int) -> Endpoint:
    target = join_host_port(address, port)
    return Endpoint(name=f"{name}/{target}", address=address, port=port, pod=target)
