"""`host:port` in every spelling that a flag, a file or a proxy uses."""

from __future__ import annotations

import pytest

from epp.address import join_host_port, parse_ip_literal, parse_port, split_host_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1:8000", "10.0.0.1", 8000),
        ("name.example:80", "name.example", 80),
        ("[::1]:8000", "::1", 8000),
        (" 10.0.0.1:1 ", "10.0.0.1", 1),
    ],
)
def test_split_host_port(text: str, host: str, port: int) -> None:
    assert split_host_port(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("::1", "an IPv6 address needs brackets"),
        ("fd00::7:8000", "an IPv6 address needs brackets"),
        ("10.0.0.1", "missing port; write HOST:PORT"),
        (":80", "missing port; write HOST:PORT"),
        ("", "missing port; write HOST:PORT"),
        ("10.0.0.1:x", "invalid port 'x': expected 1-65535"),
        ("10.0.0.1:", "invalid port '': expected 1-65535"),
        ("10.0.0.1:0", "invalid port '0': expected 1-65535"),
        ("10.0.0.1:65536", "invalid port '65536': expected 1-65535"),
        ("http://127.0.0.1:80/", "a URL instead of an address"),
        ("http://127.0.0.1:80", "a URL instead of an address; write HOST:PORT"),
    ],
)
def test_split_host_port_rejects_what_is_not_host_and_port(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        split_host_port(text)


@pytest.mark.parametrize("text", ["-1", "+1", "1.0", "\u0661", "000080", ""])
def test_parse_port_takes_decimal_digits_only(text: str) -> None:
    with pytest.raises(ValueError, match="invalid port"):
        parse_port(text)


@pytest.mark.parametrize(("text", "address"), [("10.0.0.1", "10.0.0.1"), ("FD00:0::1", "fd00::1")])
def test_parse_ip_literal_gives_the_canonical_spelling(text: str, address: str) -> None:
    assert parse_ip_literal(text) == address


@pytest.mark.parametrize("text", ["localhost", "10.0.0", "10.0.0.1/8", "fe80::1%eth0", ""])
def test_parse_ip_literal_rejects_names_and_zones(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid IP address|has a zone"):
        parse_ip_literal(text)


def test_join_host_port_puts_ipv6_into_brackets() -> None:
    assert join_host_port("::1", 80) == "[::1]:80"
    assert join_host_port("127.0.0.1", 80) == "127.0.0.1:80"
