from __future__ import annotations

import pytest

from epp.address import join_host_port
from epp.errors import ConfigError
from epp.gateway.address import resolve_targets, split_host_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1:8000", "10.0.0.1", 8000),
        ("name.example:80", "name.example", 80),
        ("[::1]:8000", "::1", 8000),
        ("::1", "::1", 0),
        ("10.0.0.1", "10.0.0.1", 0),
        ("10.0.0.1:x", "10.0.0.1", 0),
        ("10.0.0.1:65536", "10.0.0.1", 0),
    ],
)
def test_an_address_is_split(text, host, port):
    assert split_host_port(text) == (host, port)


def test_ipv6_gets_brackets():
    assert join_host_port("::1", 80) == "[::1]:80"
    assert join_host_port("127.0.0.1", 80) == "127.0.0.1:80"


def test_names_become_addresses_and_ipv4_comes_first():
    assert resolve_targets(["localhost:8000", "127.0.0.2:1", "[::1]:2"]) == ["127.0.0.1:8000", "127.0.0.2:1", "[::1]:2"]


def test_all_wrong_endpoints_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        resolve_targets(["10.0.0.1", "http://127.0.0.1:80/", "127.0.0.1:1"])
    assert [problem.path for problem in caught.value.problems] == [
        "--endpoint 10.0.0.1",
        "--endpoint http://127.0.0.1:80/",
    ]
