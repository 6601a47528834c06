"""Compares the run's requests with the quota of each flavor, for the table that `submit --dry-run` prints."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from epp_batch.preflight import quota
from epp_batch.preflight.checks import ClusterInventory, list_placement_requests
from epp_batch.spec import Run


@dataclass(frozen=True)
class QuotaFit:
    """The request of some models' Jobs for one resource, and its quota in one flavor."""

    models: str
    queue: str
    cluster_queue: str
    flavor: str
    resource: str
    amount_per_job: Fraction
    jobs: int
    potential_available: Fraction
    """Quota of the ClusterQueue including everything that it can borrow."""
    used_now: Fraction
    """Quota in use at present, by all workloads of the ClusterQueue."""

    @property
    def max_parallel_jobs(self) -> int:
        """Jobs of these models that fit at the same time if the ClusterQueue is otherwise empty."""
        return min(self.jobs, int(self.potential_available / self.amount_per_job))


def compute_quota_fits(run: Run, inventory: ClusterInventory) -> list[QuotaFit]:
    """One row per distinct request, flavor and resource. ClusterQueues that cannot be read are omitted."""
    rows: list[QuotaFit] = []
    local_queues = {queue["metadata"]["name"]: queue for queue in inventory.local_queues}
    queues = {queue["metadata"]["name"]: queue for queue in inventory.cluster_queues or ()}
    cohort_quotas = quota.CohortQuotas(inventory.cluster_queues or (), inventory.cohorts)
    for request in list_placement_requests(run):
        local = local_queues.get(request.queue)
        queue = queues.get(local["spec"]["clusterQueue"]) if local is not None else None
        if queue is None:
            continue
        requested = quota.compute_pod_usage(request.placement, queue, inventory.configuration)
        jobs = sum(unit.model in request.models for unit in run.units)
        for group in quota.resource_groups(queue):
            for offer in group.get("flavors", ()):
                for resource in group.get("coveredResources", ()):
                    if amount := requested.get(resource):
                        name = queue["metadata"]["name"]
                        potential = cohort_quotas.potential_available(name, offer["name"], resource)
                        used = quota.used_quota(queue, offer["name"], resource)
                        key = (", ".join(request.models), request.queue, name, offer["name"], resource)
                        rows.append(QuotaFit(*key, amount, jobs, potential, used))
    return rows
