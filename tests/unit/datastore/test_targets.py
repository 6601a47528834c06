import pytest

from epp.api import Endpoint
from epp.datastore.targets import Targets, canonical

FOUR = Endpoint(name="four", address="10.0.0.1", port=8000)
RANK = Endpoint(name="rank", address="10.0.0.1", port=8001)
SIX = Endpoint(name="six", address="fd00::1", port=8000)


@pytest.fixture
def targets() -> Targets:
    return Targets([(0, FOUR), (1, RANK), (4, SIX)])


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
def test_a_target_is_found_by_address_and_port(targets, target, slot):
    assert targets.slot(target) == slot


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
def test_a_hint_names_one_port_or_all_of_an_address(targets, item, slots):
    assert targets.slots(item) == slots


def test_ipv6_has_one_spelling():
    assert canonical("[FD00:0::01]:80") == "[fd00::1]:80"
    assert canonical("FD00:0::01") == "fd00::1"
    assert canonical("10.0.0.1:80") == "10.0.0.1:80"
