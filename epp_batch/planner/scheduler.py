"""Kueue in virtual time: queues, cycles, admissions, evictions. No clock, no heap of events: the simulation has those.

A cycle takes the head of every ClusterQueue, chooses flavors for each against the same snapshot, and goes through them
by: not borrowing first, priority, time. What is admitted counts at once; what must preempt first counts until the
cycle ends and is tried again when its victims are gone.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from epp_batch.planner import preemption
from epp_batch.planner.demand import Demand
from epp_batch.planner.flavor_assigner import Choice, Mode, choose
from epp_batch.planner.preemption import State
from epp_batch.planner.quota_tree import NONE, Cell, QuotaNode, Usage, tree
from epp_batch.planner.workload import Workload, charged
from epp_batch.planner.world import ClusterQueue, Kueue

Rank = tuple[float, float, int]
Shape = tuple[object, ...]


class Change(NamedTuple):
    """What Kueue decided about one workload: admitted, or to be evicted for a reason."""

    workload: Workload
    evicted: str = ""
    why: str = ""
    """Of a preemption: InClusterQueue, InCohortReclamation or InCohortReclaimWhileBorrowing."""


class Pending:
    """The workloads of one ClusterQueue that wait, in a heap for each shape: alike fit or do not fit alike."""

    def __init__(self, spec: ClusterQueue) -> None:
        self.spec = spec
        self.heaps: dict[Shape, list[tuple[Rank, Workload]]] = {}
        self.parked: set[Shape] = set()
        """What was found not to fit since quota was last freed; its like is not tried either."""
        self.later: list[Workload] = []
        """Must wait for a time of their own."""
        self.sticky: Workload | None = None
        """Waits for its victims to go, ahead of everybody."""

    def push(self, workload: Workload, now: float) -> None:
        if now < workload.not_before:
            self.later.append(workload)
        else:
            heapq.heappush(self.heaps.setdefault(workload.alike, []), (workload.rank, workload))

    def pop(self) -> Workload | None:
        if self.sticky is not None:
            workload, self.sticky = self.sticky, None
            return workload
        heaps = [heap for shape, heap in self.heaps.items() if heap and shape not in self.parked]
        return heapq.heappop(min(heaps))[1] if heaps else None

    def park(self, workload: Workload, now: float) -> None:
        """Sets it aside with its like; a StrictFIFO queue keeps its head where it is, and so blocks."""
        self.push(workload, now)
        if not self.spec.strict:
            self.parked.add(workload.alike)

    def retry(self, now: float) -> None:
        """Quota was freed: everybody is tried again, but for those who must wait longer."""
        self.parked.clear()
        later, self.later = self.later, []
        for workload in later:
            self.push(workload, now)


class Queues:
    """All of Kueue's state."""

    def __init__(self, kueue: Kueue) -> None:
        self.kueue = kueue
        self.specs = {spec.name: spec for spec in kueue.queues}
        self.nodes = tree(kueue)
        self.pending = {name: Pending(spec) for name, spec in self.specs.items()}
        self.holding: dict[str, list[Workload]] = {name: [] for name in self.specs}
        self._numbers = 0
        self._stirred = False
        """Somebody was put where a cycle would find them."""

    def submit(self, demand: Demand, now: float) -> Workload | None:
        """A new workload; None when its LocalQueue leads nowhere."""
        queue = self.kueue.local.get(demand.queue, "")
        if queue not in self.specs:
            return None
        self._numbers += 1
        workload = Workload(demand, queue, charged(demand, self.kueue), now, self._numbers)
        self.pending[queue].push(workload, now)
        self._stirred = True
        return workload

    def settle(self, now: float) -> list[Change]:
        """Cycles until nothing changes; what was decided, in order."""
        changes: list[Change] = []
        if not self._stirred:
            return changes
        self._stirred = False
        while True:
            progress, made = self._cycle(now)
            changes += made
            if not progress:
                return changes

    def release(self, workload: Workload, now: float, *, again: bool) -> QuotaNode:
        """Its pods are gone, the quota is free; with `again` it queues once more. Returns the root that may retry."""
        preemption.take(self._state(now), workload)
        self.holding[workload.queue].remove(workload)
        workload.usage, workload.evicting = {}, False
        self._stirred = True
        if again:
            self.pending[workload.queue].push(workload, now)
        return self.nodes[workload.queue].root()

    def retry(self, root: QuotaNode, now: float) -> None:
        """Quota was freed somewhere under `root`."""
        self._stirred = True
        for name, node in self.nodes.items():
            if node.root() is root:
                self.pending[name].retry(now)

    def why(self, workload: Workload) -> str:
        """Why it is not admitted, for people; empty when it only has to wait its turn."""
        if self.specs[workload.queue].stopped:
            return f"ClusterQueue {workload.queue} is stopped"
        choice = choose(self._state(workload.created), workload)
        return choice.why if choice.never else ""

    def _state(self, now: float) -> State:
        return State(self.specs, self.nodes, self.holding, now)

    def _cycle(self, now: float) -> tuple[bool, list[Change]]:
        """One cycle: whether anything moved, and what was decided."""
        state = self._state(now)
        active = [pending for pending in self.pending.values() if not pending.spec.stopped]
        heads = [head for pending in active if (head := pending.pop()) is not None]
        chosen = [(head, choose(state, head)) for head in heads]
        chosen.sort(key=lambda entry: (entry[1].distance, *entry[0].rank))
        cycle = _Cycle(state)
        for head, choice in chosen:
            cycle.decide(head, choice)
        cycle.undo()
        progress = bool(cycle.changes)
        for head in cycle.back:
            progress |= self._back(head, cycle)
        return progress, cycle.changes

    def _back(self, head: Workload, cycle: _Cycle) -> bool:
        """Returns a head that was not admitted to its queue; whether that lets others be tried."""
        pending = self.pending[head.queue]
        if head in cycle.preempting:
            if pending.spec.strict:
                pending.push(head, cycle.state.now)
            else:
                pending.sticky = head
            return False
        if head in cycle.outrun:
            pending.push(head, cycle.state.now)
            return bool(cycle.changes)
        pending.park(head, cycle.state.now)
        return not pending.spec.strict


class _Cycle:
    """What happens to the heads, one after the other, each seeing what those before it took."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.changes: list[Change] = []
        self.back: list[Workload] = []
        self.preempting: set[Workload] = set()
        self.outrun: set[Workload] = set()
        """Fitted at the start of the cycle, but not after what others took."""
        self._victims: list[Workload] = []
        self._reserved: list[tuple[QuotaNode, Usage]] = []

    def decide(self, head: Workload, choice: Choice) -> None:
        node = self.state.nodes[head.queue]
        if choice.mode is Mode.FIT:
            if self._fits(node, choice):
                self._admit(head, choice, node)
                return
            self.outrun.add(head)
        elif choice.targets:
            overlap = any(target.workload in self._victims for target in choice.targets)
            if not overlap and self._fits(node, choice):
                self._preempt(head, choice, node)
            else:
                self.outrun.add(head)
        elif choice.mode is not Mode.NO_FIT and self.state.specs[head.queue].preemption.reclaim != "Any":
            self._reserve(node, {cell: self._own_part(node, cell, choice) for cell in choice.usage})
        self.back.append(head)

    def undo(self) -> None:
        """Ends the cycle: what was only set aside for waiting preemptors is free again."""
        for node, usage in self._reserved:
            for cell, amount in usage.items():
                node.remove(cell, amount)

    def _fits(self, node: QuotaNode, choice: Choice) -> bool:
        """As it would be with all victims of this cycle and its own gone."""
        gone = {id(w): w for w in [*self._victims, *(target.workload for target in choice.targets)]}
        for workload in gone.values():
            preemption.take(self.state, workload)
        fits = all(amount <= node.available(cell) for cell, amount in choice.usage.items())
        for workload in gone.values():
            preemption.give(self.state, workload)
        return fits

    def _admit(self, head: Workload, choice: Choice, node: QuotaNode) -> None:
        head.usage = dict(choice.usage)
        for cell, amount in head.usage.items():
            node.add(cell, amount)
        head.reserved_at = self.state.now
        self.state.holding[head.queue].append(head)
        self.changes.append(Change(head))

    def _preempt(self, head: Workload, choice: Choice, node: QuotaNode) -> None:
        self.preempting.add(head)
        self._reserve(node, choice.usage)
        for target in choice.targets:
            self._victims.append(target.workload)
            if not target.workload.evicting:
                target.workload.evicting = True
                self.changes.append(Change(target.workload, "Preempted", target.reason))

    def _reserve(self, node: QuotaNode, usage: Usage) -> None:
        self._reserved.append((node, dict(usage)))
        for cell, amount in usage.items():
            node.add(cell, amount)

    @staticmethod
    def _own_part(node: QuotaNode, cell: Cell, choice: Choice) -> int:
        """What a queue that cannot always reclaim keeps from being lent away in this cycle."""
        quota, amount, used = node.quotas.get(cell, NONE), choice.usage[cell], node.used(cell)
        if choice.distance > 0:
            return amount if quota.borrowing is None else min(amount, quota.nominal + quota.borrowing - used)
        return max(0, min(amount, quota.nominal - used))
