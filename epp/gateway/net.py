"""What a supervisor asks of the network: free ports, held sockets, small pages."""

from __future__ import annotations

import asyncio
import socket

from epp.address import join_host_port, split_host_port
from epp.errors import ConfigError, EppError, Problem


class GatewayError(EppError):
    """Something of the gateway could not be started; the message tells what and why."""


def bind_socket(host: str, port: int, way_out: str) -> socket.socket:
    """A TCP socket that keeps a port for the program which is going to listen on it: nobody is given it by chance.

    Who asks for just this port gets it, as servers do that set SO_REUSEADDR, while this one does not listen.
    Raises GatewayError naming the port and `way_out` if somebody listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise GatewayError(f"port {port} on {host}: {error.strerror}; {way_out}") from error
    return sock


def bind_listening_socket(host: str, port: int, way_out: str) -> socket.socket:
    """A bound, listening TCP socket. Raises GatewayError naming the port and `way_out` if the address is taken."""
    sock = bind_socket(host, port, way_out)
    try:
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise GatewayError(f"port {port} on {host}: {error.strerror}; {way_out}") from error
    return sock


async def http_get(host: str, port: int, path: str, seconds: float = 1.0) -> tuple[int, bytes]:
    """Status and body of one small page; status 0 if nobody answers in time."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, b""
    words = head.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body


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
