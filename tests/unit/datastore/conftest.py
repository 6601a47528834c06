"""A manual clock, and endpoints by name."""

from __future__ import annotations

from typing import Protocol

import pytest

from epp.api import Endpoint
from epp.clock import ManualClock


class BuildEndpoint(Protocol):
    """`pod("a")` is 10.0.0.1:8000, `pod("b", port=8001)` 10.0.0.2:8001; further keywords are labels."""

    def __call__(self, name: str, address: str = "", port: int = 8000, **labels: str) -> Endpoint: ...


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pod() -> BuildEndpoint:
    def build(name: str, address: str = "", port: int = 8000, **labels: str) -> Endpoint:
        return Endpoint(name=name, address=address or f"10.0.0.{ord(name[0]) - 96}", port=port, labels=labels)

    return build
