"""A run in virtual time: Jobs are created, Kueue admits them, the scheduler places them, they run and end.

Nothing here is random and nothing waits: equal input gives equal events.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence

from epp_batch.planner.demand import Demand
from epp_batch.planner.placement import Machines, Place
from epp_batch.planner.quota_tree import QuotaNode
from epp_batch.planner.scheduler import Change, Queues
from epp_batch.planner.workload import Workload
from epp_batch.planner.world import PodsReady, World
from epp_batch.timeline import Event, EventKind

NOWHERE = "admitted, but no node has what it asks for"


class Pod:
    """One admission of one demand: waiting for a place, or running."""

    def __init__(self, demand: Demand, workload: Workload | None, labels: dict[str, str], attempt: int) -> None:
        self.demand, self.workload, self.labels, self.attempt = demand, workload, labels, attempt
        self.alike = (*sorted(demand.requests.items()), *sorted(labels.items()))
        self.number = 0
        self.place: Place | None = None
        self.started = 0.0
        self.left = 0.0
        self.gone = False
        self.stopping = False
        """Told to stop: it will not start any more, nor finish."""


class Simulation:
    """One run. `run` gives its events in order of time."""

    def __init__(self, world: World, demands: Sequence[Demand], arrivals: Sequence[float] | None = None) -> None:
        self.world = world
        self.delays = world.delays
        self.queues = Queues(world.kueue) if world.kueue else None
        self.machines = Machines(world.nodes)
        self.now = 0.0
        self.events: list[Event] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._waiting: dict[tuple[object, ...], deque[Pod]] = {}
        """By shape, since alike fit or do not fit alike; each in order of arrival."""
        self._stirred = False
        """A pod is new, or one is gone: the scheduler has reason to look again."""
        self._pods: dict[str, Pod] = {}
        self._attempts: dict[str, int] = {}
        self._left = {demand.unit: demand.work for demand in demands}
        """Work that is still to be done, by unit."""
        self._open: dict[str, Workload | Demand] = {}
        times = arrivals if arrivals is not None else [i * self.delays.submit for i in range(len(demands))]
        for at, demand in zip(times, demands, strict=True):
            self._later(at, lambda demand=demand: self._arrive(demand))  # type: ignore[misc]

    def run(self) -> list[Event]:
        """Until nothing happens any more. Whoever could not run ends as failed, with the reason."""
        while self._agenda:
            self.now = self._agenda[0][0]
            while self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            self._settle()
        for unit, what in self._open.items():
            self._event(unit, "failed", detail=self._why(what))
        return self.events

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (self.now + delay, self._count, action))

    def _event(self, unit: str, kind: EventKind, *, place: str = "", detail: str = "") -> None:
        attempt = self._attempts.get(unit, 0)
        self.events.append(Event(at=self.now, unit=unit, kind=kind, place=place, detail=detail, attempt=attempt))

    def _arrive(self, demand: Demand) -> None:
        self._event(demand.unit, "created")
        self._open[demand.unit] = demand
        if self.queues is None:
            self._attempts[demand.unit] = 1
            self._pod(demand, None, {})
            return
        workload = self.queues.submit(demand, self.now)
        if workload is not None:
            self._open[demand.unit] = workload
            self._event(demand.unit, "queued")

    def _settle(self) -> None:
        """Kueue's cycles, then the scheduler's."""
        if self.queues is not None:
            for change in self.queues.settle(self.now):
                self._decided(change)
        self._schedule()

    def _decided(self, change: Change) -> None:
        unit = change.workload.name
        if change.evicted:
            self._evict(change.workload, change.evicted)
            return
        self._attempts[unit] = self._attempts.get(unit, 0) + 1
        self._event(unit, "reserved")
        self._event(unit, "admitted")
        assert self.world.kueue is not None
        labels: dict[str, str] = {}
        for flavor, _ in change.workload.usage:
            labels |= self.world.kueue.flavors.get(flavor, {})
        pod = self._pod(change.workload.demand, change.workload, labels)
        ready = self.world.kueue.pods_ready
        if ready is not None:
            self._later(ready.timeout, lambda: self._unready(pod))

    def _pod(self, demand: Demand, workload: Workload | None, labels: dict[str, str]) -> Pod:
        pod = self._pods[demand.unit] = Pod(demand, workload, labels, self._attempts[demand.unit])
        if self.delays.start:
            self._later(self.delays.start, lambda: None if pod.gone or pod.stopping else self._wait(pod))
        else:
            self._wait(pod)
        return pod

    def _wait(self, pod: Pod) -> None:
        self._count += 1
        pod.number = self._count
        self._waiting.setdefault(pod.alike, deque()).append(pod)
        self._stirred = True

    def _schedule(self) -> None:
        """Every waiting pod in order; one that does not fit does not block those behind it, but for its like."""
        if not self._stirred:
            return
        self._stirred = False
        rows = [row for row in self._waiting.values() if row]
        while rows:
            row = min(rows, key=lambda row: row[0].number)
            place = self.machines.place(row[0].demand, row[0].labels)
            if place is not None:
                self._start(row.popleft(), place)
            if place is None or not row:
                rows.remove(row)

    def _start(self, pod: Pod, place: Place) -> None:
        pod.place, pod.started = place, self.now
        pod.left = pod.demand.startup + self._left[pod.demand.unit]
        self._event(pod.demand.unit, "running", place=str(place))
        self._later(pod.left, lambda: None if pod.gone or pod.stopping else self._finish(pod))

    def _finish(self, pod: Pod) -> None:
        self._remove(pod)
        self._event(pod.demand.unit, "finished", place=str(pod.place))
        del self._open[pod.demand.unit]
        workload = pod.workload
        if workload is not None:
            self._later(self.delays.finish, lambda: self._release(workload, again=False))

    def _evict(self, workload: Workload, reason: str) -> None:
        workload.evicting = True
        pod = self._pods[workload.name]
        pod.stopping = True
        self._give_up(pod)
        self._event(workload.name, "evicted", place=str(pod.place or ""), detail=reason)
        if pod.place is not None and self.world.resumes:
            done = max(0.0, self.now - pod.started - pod.demand.startup)
            self._left[workload.name] = max(0.0, self._left[workload.name] - done)
        self._later(self.delays.stop, lambda: self._gone(pod, workload))

    def _gone(self, pod: Pod, workload: Workload) -> None:
        if not pod.gone:
            self._remove(pod)
            self._event(workload.name, "requeued")
            self._release(workload, again=True)

    def _remove(self, pod: Pod) -> None:
        pod.gone = self._stirred = True
        if pod.place is not None:
            self.machines.free(pod.demand, pod.place)
        else:
            self._give_up(pod)

    def _give_up(self, pod: Pod) -> None:
        """It waits for no place any more, if it did."""
        row = self._waiting.get(pod.alike, ())
        if pod in row:
            self._waiting[pod.alike].remove(pod)

    def _release(self, workload: Workload, *, again: bool) -> None:
        assert self.queues is not None
        root = self.queues.release(workload, self.now, again=again)
        self._retry_later(root)

    def _retry_later(self, root: QuotaNode) -> None:
        queues = self.queues
        assert queues is not None
        self._later(self.delays.requeue, lambda: queues.retry(root, self.now))

    def _unready(self, pod: Pod) -> None:
        """The time to become ready is over: another try later, until it has had enough of them or can never fit."""
        workload, kueue, queues = pod.workload, self.world.kueue, self.queues
        if pod.gone or pod.stopping or pod.place is not None or workload is None or kueue is None or queues is None:
            return
        ready = kueue.pods_ready or PodsReady()
        workload.timeouts += 1
        if ready.backoff_limit is not None and workload.timeouts > ready.backoff_limit:
            self._deactivate(pod, workload, "deactivated: its pods were not ready in time too often")
        elif not self.machines.ever(pod.demand, pod.labels):
            self._deactivate(pod, workload, NOWHERE)
        else:
            wait = min(ready.backoff_base * 2 ** (workload.timeouts - 1), ready.backoff_max)
            workload.not_before = self.now + wait
            if ready.by_eviction:
                workload.stamp = self.now
            root = queues.nodes[workload.queue].root()
            self._later(wait, lambda: self._retry_later(root))
            self._evict(workload, "PodsReadyTimeout")

    def _deactivate(self, pod: Pod, workload: Workload, why: str) -> None:
        """It will not be tried again."""
        self._event(workload.name, "evicted", detail="PodsReadyTimeout")
        self._event(workload.name, "failed", detail=why)
        self._remove(pod)
        del self._open[workload.name]
        self._release(workload, again=False)

    def _why(self, what: Workload | Demand) -> str:
        """Why it never ran."""
        if self.queues is None or self.world.kueue is None:
            return "no node has what it asks for"
        if isinstance(what, Demand):
            leads_to = self.world.kueue.local.get(what.queue)
            return (
                f"LocalQueue {what.queue} needs ClusterQueue {leads_to}" if leads_to else f"no LocalQueue {what.queue}"
            )
        pod = self._pods.get(what.name)
        if pod is not None and not pod.gone:
            return NOWHERE
        return f"never admitted: {self.queues.why(what) or 'quota was never free'}"
