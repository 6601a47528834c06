"""Queues for one test: a flavor that matches the test's own nodes, a ClusterQueue and a LocalQueue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.kube.cluster.client import CLUSTER_QUEUES, FLAVORS, LOCAL_QUEUES, PRIORITIES, KubeApi, Object
from tests.kube.cluster.objects import has_condition
from tests.kube.cluster.plane import ControlPlane

KUEUE_VERSION = "kueue.x-k8s.io/v1beta2"


class Queues:
    """Creates queues and removes them again."""

    def __init__(self, plane: ControlPlane, api: KubeApi, namespace: str, node_labels: Mapping[str, str] = {}) -> None:
        """`node_labels` select the nodes that the flavor stands for; all without labels."""
        self._plane = plane
        self._api = api
        self._namespace = namespace
        self._node_labels = dict(node_labels)
        self._created: list[tuple[Any, str]] = []

    async def add_queue(self, name: str, quota: Mapping[str, int | str], *, flavor: str = "", **spec: Any) -> str:
        """Creates a LocalQueue `name` and its ClusterQueue (the namespace's name and `name`); waits until it is active.

        `quota`: resource -> nominalQuota. Further keywords go into the ClusterQueue's spec (preemption, cohortName,
        queueingStrategy …). The ClusterQueue's name is returned.
        """
        cluster = f"{self._namespace}-{name}"
        flavor = flavor or await self.add_flavor()
        resources = [{"name": resource, "nominalQuota": amount} for resource, amount in quota.items()]
        group = {"coveredResources": list(quota), "flavors": [{"name": flavor, "resources": resources}]}
        await self._create(
            CLUSTER_QUEUES,
            "ClusterQueue",
            cluster,
            {"namespaceSelector": {}, "resourceGroups": [group], **spec},
        )
        local_queue = {
            "apiVersion": KUEUE_VERSION,
            "kind": "LocalQueue",
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": {"clusterQueue": cluster},
        }
        await self._api.apply(local_queue)

        async def active() -> bool:
            return has_condition(await self._api.get(LOCAL_QUEUES, name, self._namespace), "Active")

        await self._plane.wait_until(f"queue {name} is active", active)
        return cluster

    async def add_flavor(self, name: str = "", labels: Mapping[str, str] | None = None) -> str:
        """Creates a ResourceFlavor for the test's nodes; returns its name."""
        name = name or self._namespace
        if (FLAVORS, name) not in self._created:
            await self._create(FLAVORS, "ResourceFlavor", name, {"nodeLabels": labels or self._node_labels})
        return name

    async def add_priority_class(self, name: str, value: int) -> str:
        """Creates a WorkloadPriorityClass named after the namespace; returns its name."""
        full = f"{self._namespace}-{name}"
        document = {"apiVersion": KUEUE_VERSION, "kind": "WorkloadPriorityClass", "metadata": {"name": full}}
        await self._api.apply({**document, "value": value})
        self._created.append((PRIORITIES, full))
        return full

    async def close(self) -> None:
        """Deletes cluster-scoped objects, last created first. Kueue's finalizer keeps each while Workloads use it."""
        for kind, name in reversed(self._created):
            await self._api.delete(kind, name)

    async def _create(self, kind: Any, kind_name: str, name: str, spec: Object) -> None:
        await self._api.apply(
            {"apiVersion": KUEUE_VERSION, "kind": kind_name, "metadata": {"name": name}, "spec": spec}
        )
        self._created.append((kind, name))
