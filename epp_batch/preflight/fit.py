"""How much of each quota a run asks for: for people to look at before they submit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from epp_batch.preflight import quota
from epp_batch.preflight.checks import Seen, asks
from epp_batch.spec import Run


@dataclass(frozen=True)
class Fit:
    """One request against one flavor."""

    models: str
    queue: str
    cluster_queue: str
    flavor: str
    resource: str
    each: Fraction
    jobs: int
    most: Fraction
    """With everything that can be borrowed."""
    used: Fraction
    """Now."""

    @property
    def at_once(self) -> int:
        """Jobs that run side by side in an otherwise empty queue."""
        return min(self.jobs, int(self.most / self.each))


def fits(run: Run, seen: Seen) -> list[Fit]:
    """How much of each flavor the run's Jobs ask for, for people to look at."""
    rows: list[Fit] = []
    locals_by_name = {queue["metadata"]["name"]: queue for queue in seen.local_queues}
    queues = {queue["metadata"]["name"]: queue for queue in seen.cluster_queues or ()}
    quotas = quota.Quotas(seen.cluster_queues or (), seen.cohorts)
    for ask in asks(run):
        local = locals_by_name.get(ask.queue)
        queue = queues.get(local["spec"]["clusterQueue"]) if local is not None else None
        if queue is None:
            continue
        wanted = quota.charges(ask.placement, queue, seen.configuration)
        jobs = sum(unit.model in ask.models for unit in run.units)
        for group in quota.groups(queue):
            for offer in group.get("flavors", ()):
                for resource in group.get("coveredResources", ()):
                    if amount := wanted.get(resource):
                        name = queue["metadata"]["name"]
                        most = quotas.potential(name, offer["name"], resource)
                        now = quota.used(queue, offer["name"], resource)
                        where = (", ".join(ask.models), ask.queue, name, offer["name"], resource)
                        rows.append(Fit(*where, amount, jobs, most, now))
    return rows
