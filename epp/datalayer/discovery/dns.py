"""Endpoints from DNS: every address of a name, such as that of a headless Kubernetes Service, at one port."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable

from epp.address import join_host_port, split_host_port
from epp.api import Discovery, DiscoveryNotifier, Endpoint
from epp.errors import ConfigError, Problem

log = logging.getLogger("epp.dns")

RESOLVE_INTERVAL_SECONDS = 5.0
RESOLVE_TIMEOUT_SECONDS = 5.0

ResolveAddresses = Callable[[str, int], Awaitable[Iterable[str]]]
"""Name and port to addresses; OSError if the name cannot be resolved."""

# Answers of a resolver, as opposed to failures to get one: the name does not exist, or has no addresses. A headless
# Service without ready pods is one of the two, depending on the cluster's DNS server.
_NO_ADDRESSES = frozenset(getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name))


async def resolve_addresses(name: str, port: int) -> Iterable[str]:
    """The addresses that the system's resolver returns."""
    answers = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in answers]


class DnsDiscovery(Discovery):
    """The addresses of the name in `target`, NAME:PORT, resolved every `interval_seconds`.

    While the name cannot be resolved the pool keeps its last addresses. The first list is delivered with the first
    answer of a resolver, which may be that the name does not exist: an empty list.
    """

    target: str
    interval_seconds: float = RESOLVE_INTERVAL_SECONDS

    def __post_init__(self) -> None:
        self.resolve: ResolveAddresses = resolve_addresses

    async def run(self, notifier: DiscoveryNotifier) -> None:
        """Resolves until cancelled. ConfigError if `target` is not NAME:PORT. Logs changes only."""
        name, port = self._parse_target()
        last: tuple[str, ...] | None = None
        failing = False
        while True:
            try:
                addresses = await self._resolve_once(name, port)
            except _UnresolvedError as error:
                if not failing:
                    log.warning(
                        "%s: %s; %s", name, error, "no endpoints yet" if last is None else "keeping the last addresses"
                    )
                failing = True
                if error.answered:
                    notifier.mark_synced()
            else:
                if failing or addresses != last:
                    log.info("%s: %d addresses", name, len(addresses))
                if addresses != last:
                    notifier.replace_all([_build_endpoint(name, address, port) for address in addresses])
                last, failing = addresses, False
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
            raise _UnresolvedError("no answer from the resolver", answered=False) from None
        except OSError as error:
            reason = f"cannot be resolved: {error.strerror or error}"
            raise _UnresolvedError(reason, answered=error.errno in _NO_ADDRESSES) from error
        if not addresses:
            raise _UnresolvedError("has no addresses", answered=True)
        return addresses


class _UnresolvedError(Exception):
    """No addresses. `answered`: because a resolver says so, not because there was no answer."""

    def __init__(self, reason: str, *, answered: bool) -> None:
        self.answered = answered
        super().__init__(reason)


def _build_endpoint(name: str, address: str, port: int) -> Endpoint:
    target = join_host_port(address, port)
    return Endpoint(name=f"{name}/{target}", address=address, port=port, pod=target)
