import pytest

from epp.api import Endpoint
from epp.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pod():
    """An endpoint by name: pod("a") or pod("a", port=8001)."""

    def build(name: str, address: str = "", port: int = 8000, **labels: str) -> Endpoint:
        return Endpoint(name=name, address=address or f"10.0.0.{ord(name[0]) - 96}", port=port, labels=labels)

    return build
