"""Network helpers of the gateway: reserved ports, listening sockets, and GET of small local pages."""

from __future__ import annotations

import asyncio
import socket

from epp.address import join_host_port, split_host_port
from epp.errors import ConfigError, EppError, Problem


class GatewayError(EppError):
    """A part of the gateway could not be started; the message names the part, the reason, and what to do."""


def bind_socket(host: str, port: int, advice: str) -> socket.socket:
    """A TCP socket that is bound, but does not listen: it reserves the port for a program started later.

    The kernel no longer hands the port out for port 0, while servers that ask for it by number and set SO_REUSEADDR
    (Linux) can still listen on it. Raises GatewayError with the port and `advice` if the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise GatewayError(f"port {port} on {host}: {error.strerror}; {advice}") from error
    return sock


def bind_listening_socket(host: str, port: int, advice: str) -> socket.socket:
    """A listening TCP socket. Raises GatewayError with the port and `advice` if the address is in use."""
    sock = bind_socket(host, port, advice)
    try:
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise GatewayError(f"port {port} on {host}: {error.strerror}; {advice}") from error
    return sock


async def http_get(host: str, port: int, path: str, timeout_seconds: float = 1.0) -> tuple[int, bytes]:
    """Status and body of a small page; status 0 if there is no response within `timeout_seconds`."""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, b""
    status_line = head.split(b" ", 2)
    return (int(status_line[1]) if len(status_line) > 1 and status_line[1].isdigit() else 0), body


def resolve_targets(targets: list[str]) -> list[str]:
    """Each `host:port` as `ip:port`, IPv4 preferred: Envoy and the picker must name an endpoint alike.

    Resolves names with the system's resolver, blocking. Raises ConfigError naming every target that is malformed or
    cannot be resolved.
    """
    resolved, problems = [], []
    for target in targets:
        try:
            host, port = split_host_port(target)
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except ValueError as error:
            problems.append(Problem(f"--endpoint {target}", str(error)))
            continue
        except OSError as error:
            problems.append(Problem(f"--endpoint {target}", f"cannot be resolved: {error.strerror or error}"))
            continue
        answers.sort(key=lambda answer: answer[0] != socket.AF_INET)
        resolved.append(join_host_port(str(answers[0][4][0]), port))
    if problems:
        raise ConfigError(problems, "endpoints")
    return resolved
