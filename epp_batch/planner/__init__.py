"""What a run would take on a cluster, in virtual time: Kueue, the scheduler, slices, and the order that suits them.

Pure: no clock, no files, no network. `objects.world` reads a cluster from its Kubernetes objects, `demands` says what
units ask of it, `arrange` puts them in order, `predict` runs them.
"""

from __future__ import annotations

from collections.abc import Sequence

from epp_batch.planner.demand import Demand, demands
from epp_batch.planner.outcome import Outcome, bound, outcome
from epp_batch.planner.policies import POLICIES, Aim, Policy, Search, arrange
from epp_batch.planner.simulation import Simulation
from epp_batch.planner.speed import FASTER, PAPER, Speeds
from epp_batch.planner.world import Delays, Kueue, Node, Sharing, World, machine
from epp_batch.spec import Cluster, Unit
from epp_batch.timeline import Event

__all__ = [
    "FASTER", "PAPER", "POLICIES", "Aim", "Delays", "Demand", "Kueue", "Node", "Outcome", "Policy", "Search", "Sharing",
    "Speeds", "World", "arrange", "bound", "demands", "in_order", "machine", "outcome", "predict", "run",
]  # fmt: skip


def run(world: World, demands: Sequence[Demand], arrivals: Sequence[float] | None = None) -> list[Event]:
    """The timeline of demands in this order, in seconds from the first; `arrivals` where they do not come at once."""
    return Simulation(world, demands, arrivals).run()


def predict(
    units: Sequence[Unit], cluster: Cluster, world: World, *, speeds: Speeds = FASTER, policy: Policy = "submission"
) -> list[Event]:
    """The timeline of these units on that cluster, in seconds from the first submission.

    A unit that could never run ends as `failed` with the reason. Raises InputError where a length, a speed or a slice
    is not known.
    """
    wanted = demands(units, cluster, speeds, world)
    return run(world, arrange(policy, wanted, world, speeds))


def in_order(
    units: Sequence[Unit], cluster: Cluster, world: World, *, speeds: Speeds = FASTER, search: Search | None = None
) -> list[Unit]:
    """The units in the order in which to submit them onto slices; for `intake.units(arrange=…)`."""
    by_name = {unit.name: unit for unit in units}
    found = arrange("slots", demands(units, cluster, speeds, world), world, speeds, search)
    return [by_name[demand.unit] for demand in found]
