"""Where a run's Jobs wait, from Kueue's visibility API; silently nothing where there is none."""

from __future__ import annotations

from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.resources import KueueResources


async def request_queue_positions(
    client: ApiClient, kueue: KueueResources, namespace: str, queue: str
) -> dict[str, int] | None:
    """By Workload name, the position in LocalQueue `queue`, from 1; None where nobody tells.

    The API is an aggregated one that many clusters do not have, and few users may read.
    """
    try:
        answer = await client.get(kueue.pending_workloads_path(namespace, queue))
    except ApiServerUnreachable:
        return {}
    except ClusterError:
        return None
    return {item["metadata"]["name"]: item["positionInLocalQueue"] + 1 for item in answer.get("items", ())}
