"""Positions of a run's Workloads in their LocalQueues, from Kueue's visibility API (PendingWorkloadsSummary).

Many clusters do not install this aggregated API and few users may read it: without it, no error is raised.
"""

from __future__ import annotations

from collections.abc import Iterable

from epp_batch.controller.unit_status import UnitObjects, derive_unit_status
from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.resources import KueueResources


async def request_queue_positions(
    client: ApiClient, kueue: KueueResources, namespace: str, local_queue: str
) -> dict[str, int] | None:
    """Positions in the LocalQueue by Workload name, counted from 1.

    None if the API is not available to us; empty if the server does not answer at the moment.
    """
    try:
        response = await client.get(kueue.pending_workloads_path(namespace, local_queue))
    except ApiServerUnreachable:
        return {}
    except ClusterError:
        return None
    return {item["metadata"]["name"]: item["positionInLocalQueue"] + 1 for item in response.get("items", ())}


async def list_queue_positions(
    client: ApiClient, kueue: KueueResources, namespace: str, units: Iterable[UnitObjects]
) -> dict[str, int]:
    """Positions of the units that wait in a LocalQueue, by Workload name; units of unknown position are left out."""
    waiting = {
        unit.workload.metadata.name: unit.workload.spec.queue_name
        for unit in units
        if unit.workload is not None and derive_unit_status(unit).phase == "queued"
    }
    positions: dict[str, int] = {}
    for queue in sorted(set(waiting.values())):
        positions |= await request_queue_positions(client, kueue, namespace, queue) or {}
    return {name: position for name, position in positions.items() if name in waiting}
