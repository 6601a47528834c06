"""Endpoints named on the command line: `HOST:PORT`, an IPv6 address in brackets.

A host is an address or `localhost`: the proxy is told addresses, so a name must be resolved by somebody who resolves it
again, which is what `epp.datalayer.discovery.dns` is for.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from epp.api import Endpoint
from epp.errors import ConfigError, Problem

HOST_PORT_EXAMPLES = "write HOST:PORT, e.g. 10.0.0.7:8000 or [fd00::7]:8000"


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


def split_host_port(target: str) -> tuple[str, int]:
    """Host, brackets removed, and port of `HOST:PORT`; ValueError saying what is wrong with it."""
    host, colon, port = target.strip().rpartition(":")
    if not colon or not host:
        raise ValueError(f"no port; {HOST_PORT_EXAMPLES}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets; {HOST_PORT_EXAMPLES}")
    return host, parse_port(port)


def parse_port(text: str) -> int:
    """A port from its digits; ValueError if it is none."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0
    if not 1 <= number <= 65535:
        raise ValueError(f"{text!r} is no port; 1 to 65535")
    return number


def parse_ip_literal(host: str) -> str:
    """An IPv4 or IPv6 address in its usual spelling; ValueError if it is none that a proxy can route to."""
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is no IP address; a name can be followed by DNS discovery") from None
    if "%" in host:
        raise ValueError(f"{host!r} has a zone, which a proxy cannot route to")
    return str(address)
