"""Lookup of slots by `ip:port` and by items of a subset hint."""

import pytest

from epp.address import canonicalize_address
from epp.api import Endpoint
from epp.datastore.targets import TargetIndex

FOUR = Endpoint(name="four", address="10.0.0.1", port=8000)
RANK = Endpoint(name="rank", address="10.0.0.1", port=8001)
SIX = Endpoint(name="six", address="fd00::1", port=8000)


@pytest.fixture
def targets() -> TargetIndex:
    return TargetIndex([(0, FOUR), (1, RANK), (4, SIX)])


@pytest.mark.parametrize(
    ("target", "slot"),
    [
        ("10.0.0.1:8000", 0),
        ("10.0.0.1:8001", 1),
        ("10.0.0.1:8002", None),
        ("10.0.0.1", None),
        ("[fd00::1]:8000", 4),
        ("[FD00:0:0::1]:8000", 4),
        ("[fd00::2]:8000", None),
        ("[nonsense]:8000", None),
        ("", None),
    ],
)
def test_find_slot_by_address_and_port(targets: TargetIndex, target: str, slot: int | None) -> None:
    assert targets.find_slot(target) == slot


@pytest.mark.parametrize(
    ("item", "slots"),
    [
        ("10.0.0.1:8001", (1,)),
        ("10.0.0.1:9", ()),
        ("10.0.0.1", (0, 1)),
        ("fd00::1", (4,)),
        ("[fd00:0::1]", (4,)),
        ("pod-a", ()),
    ],
)
def test_a_subset_item_is_one_port_or_all_ports_of_an_address(
    targets: TargetIndex, item: str, slots: tuple[int, ...]
) -> None:
    assert targets.find_subset_slots(item) == slots


def test_ipv6_addresses_are_canonicalized() -> None:
    assert canonicalize_address("[FD00:0::01]:80") == "[fd00::1]:80"
    assert canonicalize_address("FD00:0::01") == "fd00::1"
    assert canonicalize_address("10.0.0.1:80") == "10.0.0.1:80"
