"""Where a run's Jobs wait, from Kueue's visibility API; silently nothing where there is none."""

from __future__ import annotations

from epp_batch.errors import ClusterError, Unreachable
from epp_batch.kube.client import Client
from epp_batch.kube.resources import Kueue


async def positions(client: Client, kueue: Kueue, namespace: str, queue: str) -> dict[str, int] | None:
    """By Workload name, the position in LocalQueue `queue`, from 1; None where nobody tells.

    The API is an aggregated one that many clusters do not have, and few users may read.
    """
    try:
        answer = await client.get(kueue.pending(namespace, queue))
    except Unreachable:
        return {}
    except ClusterError:
        return None
    return {item["metadata"]["name"]: item["positionInLocalQueue"] + 1 for item in answer.get("items", ())}
