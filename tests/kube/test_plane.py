"""The plane itself: Kueue admits and queues on KWOK nodes, its webhooks refuse, users are restricted, outages pass."""

from __future__ import annotations

import pytest

from tests.kube.client import JOBS, WORKLOADS, Api, ApiError
from tests.kube.objects import container, holds, job
from tests.kube.plane import Plane
from tests.kube.queues import Queues

GPU = {"nvidia.com/gpu": 1}


async def test_kueue_admits_what_the_quota_holds_and_the_rest_when_slots_come_free(
    plane: Plane, api: Api, namespace: str, queues: Queues, kwok_nodes
) -> None:
    await kwok_nodes(2, GPU)
    await queues.add("lq", {"nvidia.com/gpu": 2})
    for number in range(3):
        await api.create(job(f"j-{number}", namespace, container(devices=GPU), queue="lq", runs_for="1s"))

    async def admitted() -> list[str]:
        return sorted(w["metadata"]["name"] for w in await api.list(WORKLOADS, namespace) if holds(w, "Admitted"))

    async def two() -> bool:
        return len(await admitted()) == 2 and len(await api.list(WORKLOADS, namespace)) == 3

    await plane.until("two of three are admitted", two)

    async def complete() -> bool:
        return all(holds(j, "Complete") for j in await api.list(JOBS, namespace))

    await plane.until("all three are complete", complete)


async def test_a_job_created_unsuspended_is_suspended_by_the_webhook(api: Api, namespace: str) -> None:
    document = job("forced", namespace, container(devices=GPU), queue="lq", suspend=False)
    assert (await api.create(document))["spec"]["suspend"]


async def test_the_webhook_refuses_a_bad_queue(api: Api) -> None:
    spec = {"namespaceSelector": {}, "cohortName": "not a name!"}
    bad = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": "bad"}, "spec": spec}
    with pytest.raises(ApiError, match="cohortName"):
        await api.create(bad)
