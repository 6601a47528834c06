"""Endpoints named by `--endpoint HOST:PORT`, an IPv6 address in brackets.

HOST is an IP address or `localhost`. The proxy is sent addresses, and the address of a DNS name changes, so names are
the business of `epp.datalayer.discovery.dns`, which resolves them again and again.
"""

from __future__ import annotations

from collections.abc import Iterable

from epp.address import parse_ip_literal, split_host_port
from epp.api import Discovery, DiscoveryNotifier, Endpoint
from epp.errors import ConfigError, Problem


class StaticDiscovery(Discovery):
    """The endpoints of the `--endpoint` flags; they never change."""

    targets: list[str]

    async def run(self, notifier: DiscoveryNotifier) -> None:
        """Reports the endpoints and returns. ConfigError with every target that is malformed or given twice."""
        notifier.replace_all(parse_endpoints(self.targets))


def parse_endpoints(targets: Iterable[str], flag: str = "--endpoint") -> list[Endpoint]:
    """One endpoint for each `HOST:PORT`, named like it. ConfigError with everything that is wrong with them."""
    found: dict[str, Endpoint] = {}
    problems: list[Problem] = []
    for text in targets:
        try:
            endpoint = parse_endpoint(text)
        except ValueError as error:
            problems.append(Problem(f"{flag} {text}", str(error)))
            continue
        if endpoint.name in found:
            problems.append(Problem(f"{flag} {text}", "is given twice"))
        found[endpoint.name] = endpoint
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def parse_endpoint(target: str) -> Endpoint:
    """The endpoint of one `HOST:PORT`; ValueError with what is wrong with it."""
    host, port = split_host_port(target)
    address = "127.0.0.1" if host == "localhost" else parse_ip_literal(host)
    endpoint = Endpoint(name="", address=address, port=port)
    return Endpoint(name=endpoint.target, address=address, port=port, pod=endpoint.target)
