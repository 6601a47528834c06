"""`host:port`, with IPv6 in brackets."""

from __future__ import annotations

import ipaddress
import socket

from epp.address import join_host_port
from epp.errors import ConfigError, Problem


def split_host_port(text: str) -> tuple[str, int]:
    """Host without brackets, and port; port 0 if there is none or it is no port."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return text.strip("[]"), 0
    number = int(port) if port.isdecimal() else 0
    return host.removeprefix("[").removesuffix("]"), number if number < 65536 else 0


def is_ip_address(host: str) -> bool:
    """Whether `host` is an address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def resolve_targets(addresses: list[str]) -> list[str]:
    """Each `host:port` as `ip:port`, IPv4 preferred: Envoy and the picker must name an endpoint alike.

    Raises ConfigError naming every address that is wrong or unknown.
    """
    found, problems = [], []
    for address in addresses:
        host, port = split_host_port(address)
        if not host or not port:
            problems.append(Problem(f"--endpoint {address}", "write HOST:PORT, e.g. 127.0.0.1:8000 or [::1]:8000"))
            continue
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            problems.append(Problem(f"--endpoint {address}", f"the name cannot be resolved: {error.strerror or error}"))
            continue
        answers.sort(key=lambda answer: answer[0] != socket.AF_INET)
        found.append(join_host_port(str(answers[0][4][0]), port))
    if problems:
        raise ConfigError(problems, "endpoints")
    return found
