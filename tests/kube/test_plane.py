"""The plane itself: Kueue admits and queues on KWOK nodes, its webhooks refuse, users are restricted, outages pass."""

from __future__ import annotations

import os
import signal

import aiohttp
import pytest

from tests.kube.cluster.client import JOBS, PODS, WORKLOADS, ApiError, KubeApi, Object
from tests.kube.cluster.objects import build_container, build_job, has_condition
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.processes import ProcessDied
from tests.kube.cluster.queues import Queues

GPU = {"nvidia.com/gpu": 1}


async def test_kueue_admits_what_the_quota_holds_and_the_rest_when_slots_come_free(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, kwok_nodes
) -> None:
    await kwok_nodes(2, GPU)
    await queues.add_queue("lq", {"nvidia.com/gpu": 2})
    for number in range(3):
        await api.create(build_job(f"j-{number}", namespace, build_container(devices=GPU), queue="lq", runs_for="1s"))

    async def admitted() -> list[str]:
        return sorted(
            w["metadata"]["name"] for w in await api.list(WORKLOADS, namespace) if has_condition(w, "Admitted")
        )

    async def two() -> bool:
        return len(await admitted()) == 2 and len(await api.list(WORKLOADS, namespace)) == 3

    await plane.wait_until("two of three are admitted", two)

    async def complete() -> bool:
        return all(has_condition(j, "Complete") for j in await api.list(JOBS, namespace))

    await plane.wait_until("all three are complete", complete)


async def test_a_job_created_unsuspended_is_suspended_by_the_webhook(api: KubeApi, namespace: str) -> None:
    document = build_job("forced", namespace, build_container(devices=GPU), queue="lq", suspend=False)
    assert (await api.create(document))["spec"]["suspend"]


async def test_the_webhook_refuses_a_bad_queue(api: KubeApi) -> None:
    spec = {"namespaceSelector": {}, "cohortName": "not a name!"}
    bad = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": "bad"}, "spec": spec}
    with pytest.raises(ApiError, match="cohortName"):
        await api.create(bad)


async def test_the_queue_position_is_served_through_the_aggregated_api(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues
) -> None:
    cluster = await queues.add_queue("lq", {"nvidia.com/gpu": 0})
    for number in range(2):
        await api.create(build_job(f"j-{number}", namespace, build_container(devices=GPU), queue="lq"))
    base = "/apis/visibility.kueue.x-k8s.io/v1beta2"

    async def pending() -> list[Object] | None:
        path = f"{base}/namespaces/{namespace}/localqueues/lq/pendingworkloads"
        items: list[Object] = (await api.request("GET", path))["items"]
        return items if len(items) == 2 else None

    items = await plane.wait_until("both are pending", pending)
    assert [item["positionInLocalQueue"] for item in items] == [0, 1]
    whole = await api.request("GET", f"{base}/clusterqueues/{cluster}/pendingworkloads")
    assert len(whole["items"]) == 2


async def test_a_service_account_may_do_what_its_role_says_and_no_more(
    plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list"]}]
    kubeconfig = await plane.create_user(namespace, "submitter", rules)
    async with KubeApi(kubeconfig) as user:

        async def bound() -> bool:
            return await user.list(JOBS, namespace) == []

        await plane.wait_until("the authorizer has seen the RoleBinding", bound)
        await user.create(build_job("mine", namespace, build_container(devices=GPU), queue="lq"))
        for forbidden in (user.list(PODS, namespace), user.list(JOBS), user.delete(JOBS, "mine", namespace)):
            with pytest.raises(ApiError) as refusal:
                await forbidden
            assert (refusal.value.status, refusal.value.reason) == (403, "Forbidden")


async def test_a_conversion_webhook_serves_the_older_version(api: KubeApi, queues: Queues) -> None:
    cluster = await queues.add_queue("lq", GPU, cohortName="family")
    older = await api.request("GET", f"/apis/kueue.x-k8s.io/v1beta1/clusterqueues/{cluster}")
    assert older["spec"]["cohort"] == "family"


async def test_jobs_go_on_after_an_outage_of_the_api_server(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, kwok_nodes
) -> None:
    await kwok_nodes(1, GPU)
    await queues.add_queue("lq", GPU)
    await api.create(build_job("before", namespace, build_container(devices=GPU), queue="lq", runs_for="1s"))
    url = plane.url
    await plane.stop_program("kube-apiserver")
    with pytest.raises(aiohttp.ClientConnectorError):
        await api.list(JOBS, namespace)
    await plane.start_program("kube-apiserver")
    assert plane.url == url
    await api.create(build_job("after", namespace, build_container(devices=GPU), queue="lq", runs_for="0.1s"))

    async def complete() -> bool:
        jobs = await api.list(JOBS, namespace)
        return len(jobs) == 2 and all(has_condition(j, "Complete") for j in jobs)

    await plane.wait_until("both are complete", complete)


async def test_kueue_can_be_given_another_configuration(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, kwok_nodes
) -> None:
    await kwok_nodes(1, {"nvidia.com/mig-3g.20gb": 2})
    slots = {"input": "nvidia.com/mig-3g.20gb", "strategy": "Replace", "outputs": {"example.com/mig-slot": 4}}
    async with plane.with_kueue_configuration(resources={"transformations": [slots]}):
        await queues.add_queue("lq", {"example.com/mig-slot": 8})
        await api.create(build_job("j", namespace, build_container(devices={"nvidia.com/mig-3g.20gb": 1}), queue="lq"))

        async def admission() -> Object | None:
            workloads = await api.list(WORKLOADS, namespace)
            return workloads[0].get("status", {}).get("admission") if workloads else None

        admitted = await plane.wait_until("the Job is admitted", admission)
        assert admitted["podSetAssignments"][0]["resourceUsage"] == {"example.com/mig-slot": "4"}


async def test_a_program_that_dies_fails_the_wait_with_the_end_of_its_log(plane: ControlPlane) -> None:
    async def never() -> bool:
        return False

    os.kill(plane.process_ids()["kwok"], signal.SIGKILL)
    with pytest.raises(ProcessDied, match=r"kwok ended with -9.*kwok\.log"):
        await plane.wait_until("nothing", never)
    await plane.restart_program("kwok")


async def test_gateway_api_and_inference_pools_can_be_installed(
    plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    await plane.install_crds(plane.manifests.gateway_crds())
    picker = {"name": "epp", "port": {"number": 9002}}
    spec = {"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": [], "endpointPickerRef": picker}
    place = {"name": "pool", "namespace": namespace}
    pool = {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": place, "spec": spec}
    with pytest.raises(ApiError, match="targetPorts"):
        await api.create(pool)
    spec["targetPorts"] = [{"number": 8000}]
    assert (await api.create(pool))["metadata"]["uid"]
