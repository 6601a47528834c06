"""Targets given as names become the `ip:port` by which Envoy and the picker both know an endpoint."""

from __future__ import annotations

import pytest

from epp.errors import ConfigError
from epp.gateway.net import resolve_targets


def test_resolve_targets_prefers_ipv4() -> None:
    assert resolve_targets(["localhost:8000", "127.0.0.2:1", "[::1]:2"]) == ["127.0.0.1:8000", "127.0.0.2:1", "[::1]:2"]


def test_resolve_targets_names_every_wrong_endpoint() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_targets(["10.0.0.1", "http://127.0.0.1:80/", "127.0.0.1:1"])
    assert [problem.path for problem in caught.value.problems] == [
        "--endpoint 10.0.0.1",
        "--endpoint http://127.0.0.1:80/",
    ]
