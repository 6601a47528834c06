"""One workload on its way through Kueue."""

from __future__ import annotations

from epp_batch.planner.demand import CLASS, Demand
from epp_batch.planner.quota_tree import Usage
from epp_batch.planner.world import Amounts, Kueue


class Workload:
    """A demand that Kueue knows; `usage` is what it holds, from reservation until its pods are gone."""

    def __init__(self, demand: Demand, queue: str, requests: Amounts, created: float, number: int) -> None:
        self.demand = demand
        self.queue = queue
        """ClusterQueue."""
        self.requests = requests
        """As Kueue counts them."""
        self.created = created
        self.number = number
        """Breaks ties, where Kueue takes the UID."""
        self.stamp = created
        """What it queues by."""
        self.usage: Usage = {}
        self.reserved_at = 0.0
        self.evicting = False
        self.not_before = 0.0
        self.timeouts = 0
        self.alike = (demand.priority, *sorted(requests.items()))
        """Equal for workloads that Kueue need not try one by one."""

    @property
    def name(self) -> str:
        return self.demand.unit

    @property
    def priority(self) -> int:
        return self.demand.priority

    @property
    def rank(self) -> tuple[float, float, int]:
        """Order within a queue: priority, then time."""
        return (-self.priority, self.stamp, self.number)


def charged(demand: Demand, kueue: Kueue) -> Amounts:
    """What its requests count as: claims by the mapping of their DeviceClass, the rest through the transformations."""
    out: Amounts = {}
    rules = {rule.input: rule for rule in kueue.transformations}
    for resource, amount in demand.requests.items():
        mapped = kueue.device_classes.get(resource.removeprefix(CLASS)) if resource.startswith(CLASS) else None
        if mapped is not None:
            resource, amount = mapped.resource, demand.memory if mapped.by_memory else amount
        rule = rules.get(resource)
        if rule is None or not rule.replace:
            out[resource] = out.get(resource, 0) + amount
        if rule is not None:
            for name, times in rule.outputs.items():
                out[name] = out.get(name, 0) + round(times * amount)
    return out
