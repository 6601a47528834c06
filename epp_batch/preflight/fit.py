"""How much of each quota a run asks for: for people to look at before they submit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from epp_batch.preflight import quota
from epp_batch.preflight.checks import ClusterInventory, list_placement_requests
from epp_batch.spec import Run


@dataclass(frozen=True)
class QuotaFit:
    """One request against one flavor."""

    models: str
    queue: str
    cluster_queue: str
    flavor: str
    resource: str
    amount_per_job: Fraction
    jobs: int
    potential_available: Fraction
    """With everything that can be borrowed."""
    used_now: Fraction
    """Now."""

    @property
    def max_parallel_jobs(self) -> int:
        """Jobs that run side by side in an otherwise empty queue."""
        return min(self.jobs, int(self.potential_available / self.amount_per_job))


def compute_quota_fits(run: Run, seen: ClusterInventory) -> list[QuotaFit]:
    """How much of each flavor the run's Jobs ask for, for people to look at."""
    rows: list[QuotaFit] = []
    locals_by_name = {queue["metadata"]["name"]: queue for queue in seen.local_queues}
    queues = {queue["metadata"]["name"]: queue for queue in seen.cluster_queues or ()}
    quotas = quota.CohortQuotas(seen.cluster_queues or (), seen.cohorts)
    for ask in list_placement_requests(run):
        local = locals_by_name.get(ask.queue)
        queue = queues.get(local["spec"]["clusterQueue"]) if local is not None else None
        if queue is None:
            continue
        wanted = quota.compute_pod_usage(ask.placement, queue, seen.configuration)
        jobs = sum(unit.model in ask.models for unit in run.units)
        for group in quota.resource_groups(queue):
            for offer in group.get("flavors", ()):
                for resource in group.get("coveredResources", ()):
                    if amount := wanted.get(resource):
                        name = queue["metadata"]["name"]
                        most = quotas.potential_available(name, offer["name"], resource)
                        now = quota.used_quota(queue, offer["name"], resource)
                        where = (", ".join(ask.models), ask.queue, name, offer["name"], resource)
                        rows.append(QuotaFit(*where, amount, jobs, most, now))
    return rows
