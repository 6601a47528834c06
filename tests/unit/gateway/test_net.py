"""Resolved targets, reserved ports, and GET of local pages."""

from __future__ import annotations

import socket
import sys

import pytest

from epp.errors import ConfigError
from epp.gateway.net import GatewayError, bind_listening_socket, bind_socket, http_get, resolve_targets


def test_resolve_targets_prefers_ipv4() -> None:
    assert resolve_targets(["localhost:8000", "127.0.0.2:1", "[::1]:2"]) == ["127.0.0.1:8000", "127.0.0.2:1", "[::1]:2"]


def test_resolve_targets_names_every_wrong_endpoint() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_targets(["10.0.0.1", "http://127.0.0.1:80/", "127.0.0.1:1"])
    assert [problem.path for problem in caught.value.problems] == [
        "--endpoint 10.0.0.1",
        "--endpoint http://127.0.0.1:80/",
    ]


def test_a_port_in_use_is_an_error_with_advice():
    with bind_listening_socket("127.0.0.1", 0, "") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(GatewayError, match=rf"port {port} on 127.0.0.1: Address already in use; use --port"):
            bind_listening_socket("127.0.0.1", port, "use --port")


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere a bound port cannot be listened on by another socket"
)
def test_a_reserved_port_can_be_listened_on_but_is_not_assigned_by_the_system():
    with bind_socket("127.0.0.1", 0, "") as reserved:
        port = reserved.getsockname()[1]
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))  # without SO_REUSEADDR, like the kernel for port 0
        with bind_listening_socket("127.0.0.1", port, ""), pytest.raises(GatewayError, match="use --port"):
            bind_socket("127.0.0.1", port, "use --port")


async def test_http_get_without_a_server_has_status_0():
    with bind_listening_socket("127.0.0.1", 0, "") as sock:
        port = sock.getsockname()[1]
    assert await http_get("127.0.0.1", port, "/") == (0, b"")
