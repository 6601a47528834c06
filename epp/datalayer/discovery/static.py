"""Endpoints named on the command line: `HOST:PORT`, an IPv6 address in brackets.

A host is an address or `localhost`: the proxy is told addresses, so a name must be resolved by somebody who resolves it
again, which is what `epp.datalayer.discovery.dns` is for.
"""

from __future__ import annotations

from collections.abc import Iterable

from epp.address import parse_ip_literal, split_host_port
from epp.api import Endpoint
from epp.errors import ConfigError, Problem


def parse_endpoints(targets: Iterable[str], flag: str = "--endpoint") -> list[Endpoint]:
    """One endpoint per target, named like it; ConfigError with everything that is wrong with them."""
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
    """The endpoint of one `HOST:PORT`; ValueError saying what is wrong with it."""
    host, port = split_host_port(target)
    address = "127.0.0.1" if host == "localhost" else parse_ip_literal(host)
    endpoint = Endpoint(name="", address=address, port=port)
    return Endpoint(name=endpoint.target, address=address, port=port, pod=endpoint.target)
