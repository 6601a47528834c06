"""Network addresses as text: `host:port`, with IPv6 addresses in brackets (RFC 3986 section 3.2.2). No I/O.

The only parser of `host:port` in the project. Names follow Go's net package: `SplitHostPort`, `JoinHostPort`.
"""

from __future__ import annotations

from ipaddress import ip_address

HOST_PORT_EXAMPLES = "write HOST:PORT, e.g. 10.0.0.7:8000 or [fd00::7]:8000"


def join_host_port(host: str, port: int) -> str:
    """`host:port`; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(target: str) -> tuple[str, int]:
    """Host without brackets, and port, of `host:port`; ValueError with the reason if it is not that."""
    host, colon, port = target.strip().rpartition(":")
    if not colon or not host:
        raise ValueError(f"missing port; {HOST_PORT_EXAMPLES}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif "//" in host:
        raise ValueError(f"a URL instead of an address; {HOST_PORT_EXAMPLES}")
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets; {HOST_PORT_EXAMPLES}")
    return host, parse_port(port)


def parse_port(text: str) -> int:
    """A TCP port in decimal digits; ValueError if it is not one."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0
    if not 1 <= number <= 65535:
        raise ValueError(f"invalid port {text!r}: expected 1-65535")
    return number


def parse_ip_literal(host: str) -> str:
    """An IPv4 or IPv6 address in its canonical spelling; ValueError if it is not one that a proxy can route to."""
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"invalid IP address {host!r}; for a DNS name use --dns NAME:PORT") from None
    if "%" in host:
        raise ValueError(f"IPv6 address {host!r} has a zone, which a proxy cannot route to")
    return str(address)


def canonicalize_address(target: str) -> str:
    """An address or `address:port` in its canonical spelling, for comparison; anything else as it is.

    `[fd00:0::1]:80` becomes `[fd00::1]:80`; `[fd00:0::1]` and `fd00:0::1` become `fd00::1`.
    """
    host, bracket, port = target.partition("]")
    if ":" not in host or bool(bracket) != host.startswith("["):
        return target
    try:
        address = str(ip_address(host.removeprefix("[")))
    except ValueError:
        return target
    return f"[{address}]{port}" if port else address
