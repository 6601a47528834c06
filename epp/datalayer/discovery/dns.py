"""Endpoints from DNS: every address of a name, a headless Kubernetes service for one, at one port."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable

from epp.api import Endpoint
from epp.datalayer.discovery.static import split
from epp.datalayer.endpoint_union import Membership
from epp.errors import ConfigError, Problem, SourceError
from epp.tasks import Tasks

log = logging.getLogger("epp.dns")

INTERVAL = 5.0
TIMEOUT = 5.0

Resolve = Callable[[str, int], Awaitable[Iterable[str]]]
"""Name and port to addresses; OSError if it cannot be resolved."""


async def watch(
    target: str, membership: Membership, tasks: Tasks, *, interval: float = INTERVAL, resolve: Resolve | None = None
) -> None:
    """Resolves the name of `NAME:PORT` now and every `interval` seconds. ConfigError if `target` is no such thing.

    While the name cannot be resolved the last addresses stay, none at first.
    """
    try:
        name, port = split(target)
        name.encode("idna")  # what the resolver will do; it tells labels that are empty or too long
    except ValueError as error:
        raise ConfigError([Problem(f"--dns {target}", str(error))]) from None
    names = Names(name, port, membership, resolve or addresses)
    await names.refresh()
    tasks.keep(f"resolve {name}", lambda: names.follow(interval))


async def addresses(name: str, port: int) -> Iterable[str]:
    """What the system's resolver says."""
    answers = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in answers]


class Names:
    """One name, resolved again and again."""

    def __init__(self, name: str, port: int, membership: Membership, resolve: Resolve) -> None:
        self._name = name
        self._port = port
        self._membership = membership
        self._resolve = resolve
        self._last: tuple[str, ...] | None = None
        self._failing = False

    async def follow(self, interval: float) -> None:
        """Never ends."""
        while True:
            await asyncio.sleep(interval)
            await self.refresh()

    async def refresh(self) -> None:
        """Resolves once; a failure is logged when it begins and when it ends, and changes nothing."""
        try:
            found = await self._addresses()
        except SourceError as error:
            if not self._failing:
                log.warning("%s: %s; the last addresses stay", self._name, error)
            self._failing = True
            return
        if self._failing or found != self._last:
            log.info("%s: %d addresses", self._name, len(found))
        self._failing = False
        if found != self._last:
            self._last = found
            self._membership.set(f"{self._name}:{self._port}", [self._endpoint(address) for address in found])

    async def _addresses(self) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(TIMEOUT):
                found = tuple(sorted(set(await self._resolve(self._name, self._port))))
        except TimeoutError:
            raise SourceError("no answer from the resolver") from None
        except OSError as error:
            raise SourceError(f"cannot be resolved: {error.strerror or error}") from error
        if not found:
            raise SourceError("has no addresses")
        return found

    def _endpoint(self, address: str) -> Endpoint:
        target = Endpoint(name="", address=address, port=self._port).target
        return Endpoint(name=f"{self._name}/{target}", address=address, port=self._port, pod=target)
