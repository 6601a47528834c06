"""Problems of a run, and the assertion that there is exactly one."""

from __future__ import annotations

from epp_batch.preflight.checks import ClusterInventory, find_problems
from tests.unit.epp_batch.conftest import run


def problems(inventory, checked_run=None, **changes):
    """(path, message) of the problems of a run, `run()` by default, in the inventory with some objects replaced."""
    found = find_problems(checked_run or run(), ClusterInventory(**{**inventory, **changes}))
    return [(problem.path, problem.message) for problem in found]


def assert_problem(found, path, *words):
    """Asserts that exactly one problem was found, of that object and with these words."""
    ((where, message),) = found
    assert where == path
    for word in words:
        assert word in message
