"""Which flavors a workload would get, and whether it fits, fits after preemption, or never will."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from epp_batch.planner import preemption
from epp_batch.planner.demand import CLASS
from epp_batch.planner.preemption import State, Target
from epp_batch.planner.quota_tree import NONE, Cell, Usage
from epp_batch.planner.workload import Workload
from epp_batch.planner.world import ClusterQueue, Group


class Mode(IntEnum):
    """Kueue's granular modes, from worst to best."""

    NO_FIT = 0
    NO_CANDIDATES = 1
    """Preemption would be allowed, but there is nobody to preempt."""
    PREEMPT = 2
    RECLAIM = 3
    """All victims are in other queues."""
    FIT = 4


class Choice(NamedTuple):
    """One way to serve a workload."""

    mode: Mode
    distance: int
    """How far up the tree the quota comes from; 0 is its own."""
    usage: Usage
    short: set[Cell]
    """Cells with too little free."""
    targets: list[Target]
    why: str = ""
    never: bool = False
    """No preemption and no waiting would help."""


def choose(state: State, workload: Workload) -> Choice:
    """The flavors that Kueue would pick now."""
    spec = state.specs[workload.queue]
    usage: Usage = {}
    short: set[Cell] = set()
    mode, distance, left = Mode.FIT, 0, set(workload.requests)
    for group in spec.groups:
        wanted = {resource: workload.requests[resource] for resource in group.covered if resource in left}
        if not wanted:
            continue
        left -= wanted.keys()
        found = _group(state, workload, spec, group, wanted)
        if found.mode is Mode.NO_FIT:
            return found
        usage |= found.usage
        short |= found.short
        mode, distance = min(mode, found.mode), max(distance, found.distance)
    if left:
        return Choice(Mode.NO_FIT, 0, {}, set(), [], _uncovered(min(left), spec), True)
    victims = preemption.targets(state, workload, usage, short) if mode is not Mode.FIT else []
    return Choice(mode, distance, usage, short, victims)


def _uncovered(resource: str, spec: ClusterQueue) -> str:
    if resource.startswith(CLASS):
        name = resource.removeprefix(CLASS)
        return f"DeviceClass {name} is in no deviceClassMappings of Kueue's Configuration"
    return f"{resource} is not covered by ClusterQueue {spec.name}"


def _group(state: State, workload: Workload, spec: ClusterQueue, group: Group, wanted: dict[str, int]) -> Choice:
    """The best flavor of one group, in the order and with the stops of spec.flavorFungibility."""
    best: Choice | None = None
    why, never = "", True
    for offer in group.offers:
        usage = {(offer.flavor, resource): amount for resource, amount in wanted.items()}
        found = _flavor(state, workload, spec, usage)
        why, never = found.why or why, never and found.never
        if not _try_next(found, spec):
            return found
        if found.mode is not Mode.NO_FIT and (best is None or _rank(found) > _rank(best)):
            best = found
    return best or Choice(Mode.NO_FIT, 0, {}, set(), [], why, never)


def _rank(choice: Choice) -> tuple[int, int]:
    return choice.mode, -choice.distance


def _try_next(choice: Choice, spec: ClusterQueue) -> bool:
    if choice.mode in (Mode.NO_FIT, Mode.NO_CANDIDATES):
        return True
    if choice.mode is not Mode.FIT and spec.when_can_preempt == "TryNextFlavor":
        return True
    return choice.distance > 0 and spec.when_can_borrow == "TryNextFlavor"


def _flavor(state: State, workload: Workload, spec: ClusterQueue, usage: Usage) -> Choice:
    mode, distance, short = Mode.FIT, 0, set()
    for cell, amount in usage.items():
        found, far = _cell(state, workload, spec, cell, amount)
        if found is Mode.NO_FIT:
            most = state.nodes[spec.name].potential(cell)
            why = f"{cell[1]}: {amount} asked for, but flavor {cell[0]} of ClusterQueue {spec.name} has {max(0, most)}"
            return Choice(Mode.NO_FIT, 0, {}, set(), [], why if amount > most else "", amount > most)
        if found is not Mode.FIT:
            short.add(cell)
        mode, distance = min(mode, found), max(distance, far)
    return Choice(mode, distance, dict(usage), short, [])


def _cell(state: State, workload: Workload, spec: ClusterQueue, cell: Cell, amount: int) -> tuple[Mode, int]:
    node = state.nodes[spec.name]
    if amount > node.potential(cell):
        return Mode.NO_FIT, 0
    distance, reclaimable = node.distance(cell, amount)
    if amount <= node.available(cell):
        return Mode.FIT, distance
    enough = node.quotas.get(cell, NONE).nominal >= amount
    if not (enough or reclaimable or spec.preemption.borrow != "Never"):
        return Mode.NO_FIT, distance
    victims = preemption.targets(state, workload, {cell: amount}, {cell})
    if not victims:
        return Mode.NO_CANDIDATES, distance
    for target in victims:
        preemption.take(state, target.workload)
    distance, _ = node.distance(cell, amount)
    for target in victims:
        preemption.give(state, target.workload)
    own = any(target.workload.queue == spec.name for target in victims)
    return (Mode.PREEMPT if own else Mode.RECLAIM), distance
