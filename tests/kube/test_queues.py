"""Generated objects on a real API server with Kueue; preflight compared with what Kueue does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from epp_batch.cli.lib.preflight import dry_run_jobs, read_cluster
from epp_batch.kube.client import open_client
from epp_batch.manifests.accelerators import MIG_SLOTS_RESOURCE
from epp_batch.manifests.jobs import build_claim_templates, build_job
from epp_batch.manifests.queues import QUEUE_PRESETS, build_kueue_objects, build_manager_configuration, build_preset
from epp_batch.preflight.checks import find_problems
from epp_batch.spec import ClusterOptions, Placement, Recording, Run, Task, TranscriptionOptions, Unit, Volume
from tests.kube.cluster.client import CLUSTER_QUEUES, JOBS, LOCAL_QUEUES, WORKLOADS, KubeApi, Object
from tests.kube.cluster.objects import has_condition
from tests.kube.cluster.plane import ControlPlane, NotReady
from tests.kube.cluster.queues import Queues

ACCELERATORS = ["gpu", "gpu:2", "mig:1g.5gb", "mig:3g.20gb", "mig:1g.10gb+me", "dra:3g.20gb", "dra-gpu", "cpu"]
VOLUMES = (
    Volume(source="pvc/audio", mount="/data", local="/audio"),
    Volume(source="host/srv/out", mount="/out", local="/out"),
    Volume(source="image/registry.example/whisper:large", mount="/models", read_only=True),
)
HOST = tuple(Volume(source=f"host/srv{path}", mount=path, local=path) for path in ("/audio", "/out"))


def run(namespace: str, *placements: Placement, queue: str = "lq", name: str = "r", **cluster: object) -> Run:
    """One unit for each placement, of a model of its own."""
    units = []
    for number, _ in enumerate(placements):
        recording = Recording(source=f"/audio/{number}.mp3", stems=(f"{number}",), sha256=f"{number}", seconds=60.0)
        units.append(Unit(name=f"{name}-{number}", tasks=(Task(recording=recording, model=f"m{number}"),)))
    by_model = {f"m{number}": placement for number, placement in enumerate(placements)}
    known = {"image": "none", "volumes": HOST, **cluster}
    return Run(
        name=name,
        output="/out/x",
        options=TranscriptionOptions(),
        units=tuple(units),
        cluster=ClusterOptions(namespace=namespace, queue=queue, placements=by_model, **known),  # type: ignore[arg-type]
    )


@pytest_asyncio.fixture
async def created(api: KubeApi) -> AsyncIterator[list[Object]]:
    """Cluster-scoped objects that a test creates; deleted afterwards in reverse order."""
    every: list[Object] = []
    yield every
    for one in reversed(every):
        await api.delete(await api.find_resource(one), one["metadata"]["name"])


async def create_objects(api: KubeApi, created: list[Object], *documents: Object) -> None:
    for document in documents:
        await api.create(document, fieldValidation="Strict")
        if document["metadata"].get("namespace") is None:
            created.append(document)


async def wait_until_active(plane: ControlPlane, api: KubeApi, kind: object, name: str, namespace: str = "") -> None:
    async def is_active() -> bool:
        found = await api.get(kind, name, namespace)  # type: ignore[arg-type]
        if not has_condition(found, "Active"):
            raise NotReady(found.get("status"))
        return True

    await plane.wait_until(f"{name} is active", is_active)


@pytest.mark.parametrize("name", QUEUE_PRESETS)
async def test_queues_of_every_preset_become_active(
    plane: ControlPlane, api: KubeApi, namespace: str, created: list[Object], name: str
) -> None:
    settings = build_preset(name, namespace, 8).with_prefix(f"{namespace}-")
    await create_objects(api, created, *build_kueue_objects(settings))
    for queue in settings.queues:
        await wait_until_active(plane, api, CLUSTER_QUEUES, queue.name)
        for local in queue.local_queues:
            await wait_until_active(plane, api, LOCAL_QUEUES, local, namespace)


async def test_jobs_of_every_accelerator_are_accepted_strictly(api: KubeApi, namespace: str) -> None:
    placements = [Placement(accelerator=text, cpu="2", memory="4Gi", model_path="/models") for text in ACCELERATORS]
    wanted = run(
        namespace,
        *placements,
        max_exec_seconds=7200,
        node_selector={"zone": "a"},
        service_account="default",
        volumes=VOLUMES,
    )
    for template in build_claim_templates(wanted):
        await api.create(template, fieldValidation="Strict")
    for unit in wanted.units:
        asked = build_job(unit, wanted)
        there = await api.create(asked, fieldValidation="Strict")
        assert there["metadata"]["annotations"] == asked["metadata"]["annotations"]
        assert there["spec"]["suspend"] is True
        assert there["spec"]["podFailurePolicy"]["rules"][0]["action"] == "FailJob"


async def test_mig_slices_are_charged_as_slots(
    plane: ControlPlane, api: KubeApi, namespace: str, created: list[Object]
) -> None:
    settings = build_preset("slots", namespace, 1).with_prefix(f"{namespace}-")
    needed = build_manager_configuration(settings)
    async with plane.with_kueue_configuration(
        resources=needed["resources"], waitForPodsReady=needed["waitForPodsReady"]
    ):
        await create_objects(api, created, *build_kueue_objects(settings))
        await wait_until_active(plane, api, LOCAL_QUEUES, "whisper", namespace)
        slices = ["mig:3g.20gb", "mig:2g.10gb", "mig:1g.5gb", "mig:2g.10gb"]
        wanted = run(namespace, *(Placement(accelerator=text) for text in slices), queue="whisper")
        for unit in wanted.units:
            await api.create(build_job(unit, wanted))
            await wait_for_workload(plane, api, namespace, unit.name, "insufficient unused quota")

        async def full() -> bool:
            reserved = [one for one in await api.list(WORKLOADS, namespace) if has_condition(one, "QuotaReserved")]
            usages = [use for one in reserved for use in one["status"]["admission"]["podSetAssignments"]]
            if sorted(int(use["resourceUsage"][MIG_SLOTS_RESOURCE]) for use in usages) != [1, 2, 4]:
                raise NotReady(usages)
            return True

        await plane.wait_until("seven of eight slots are taken", full)
        await delete_jobs(api, namespace)


async def wait_for_workload(plane: ControlPlane, api: KubeApi, namespace: str, name: str, *expected: str) -> Object:
    """The Workload of a Job, once Kueue has reserved its quota, or its conditions contain one of `expected`."""

    async def decided() -> Object:
        for one in await api.list(WORKLOADS, namespace):
            if one["metadata"]["ownerReferences"][0]["name"] == name:
                if has_condition(one, "QuotaReserved") or any(text in condition_messages(one) for text in expected):
                    return one
                raise NotReady(condition_messages(one))
        raise NotReady(name)

    return await plane.wait_until(f"Kueue has decided about {name}", decided)


def condition_messages(workload: Object) -> str:
    return " ".join(str(condition.get("message")) for condition in workload.get("status", {}).get("conditions", ()))


async def delete_jobs(api: KubeApi, namespace: str) -> None:
    """Deletes all Jobs, which releases the queue's quota, so that the queue can be deleted."""
    await api.request("DELETE", JOBS.path(namespace), {"propagationPolicy": "Background"})


async def find_run_problems(plane: ControlPlane, wanted: Run) -> list[str]:
    """The problems that preflight finds with the real objects, else those of a server-side dry run."""
    assert wanted.cluster is not None
    async with open_client(str(plane.kubeconfig)) as client:
        inventory = (await read_cluster(client, wanted.cluster.namespace)).inventory
        return [str(problem) for problem in find_problems(wanted, inventory) or await dry_run_jobs(client, wanted)]


async def assert_kueue_rejects(plane: ControlPlane, api: KubeApi, wanted: Run, expected: str) -> None:
    """Asserts that Kueue rejects the Job with this message and reserves no quota."""
    assert wanted.cluster is not None
    namespace = wanted.cluster.namespace
    await api.create(build_job(wanted.units[0], wanted))
    assert not has_condition(
        await wait_for_workload(plane, api, namespace, wanted.units[0].name, expected), "QuotaReserved"
    )
    await delete_jobs(api, namespace)


async def test_no_problems_if_kueue_admits(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, kwok_nodes
) -> None:
    await kwok_nodes(1, {"nvidia.com/gpu": 8})
    await queues.add_queue("lq", {"nvidia.com/gpu": 8, "memory": "64Gi"})
    wanted = run(namespace, Placement(accelerator="gpu:8", memory="64Gi"))
    assert await find_run_problems(plane, wanted) == []
    await api.create(build_job(wanted.units[0], wanted))

    async def admitted() -> bool:
        return any(has_condition(one, "Admitted") for one in await api.list(WORKLOADS, namespace))

    await plane.wait_until("the Job is admitted", admitted)
    await delete_jobs(api, namespace)


async def test_missing_queue_or_namespace(plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues) -> None:
    await queues.add_queue("there", {"nvidia.com/gpu": 8})
    wanted = run(namespace, Placement())
    assert await find_run_problems(plane, wanted) == [
        f"LocalQueue {namespace}/lq: does not exist in this namespace; there is there: give --queue NAME, "
        "or create one with epp-batch queues"
    ]
    await assert_kueue_rejects(plane, api, wanted, "doesn't exist")
    elsewhere = run("no-such-namespace", Placement())
    (problem,) = await find_run_problems(plane, elsewhere)
    assert problem.startswith("Namespace no-such-namespace: does not exist")


@pytest.mark.parametrize(
    ("placement", "quota", "expected", "kueue_message"),
    [
        (Placement(accelerator="gpu:9"), {"nvidia.com/gpu": 8}, "9 nvidia.com/gpu of at most 8", "maximum capacity"),
        (Placement(cpu="2"), {"nvidia.com/gpu": 8}, "does not cover cpu", "unavailable in ClusterQueue"),
        (Placement(accelerator="mig:1g.5gb"), {"nvidia.com/gpu": 8}, "does not cover nvidia.com/mig-1g", "unavailable"),
        (Placement(), {"nvidia.com/gpu": 0}, "1 nvidia.com/gpu of at most 0", "maximum capacity"),
    ],
)
async def test_requests_above_the_quota(
    plane: ControlPlane,
    api: KubeApi,
    namespace: str,
    queues: Queues,
    kwok_nodes,
    placement: Placement,
    quota: dict[str, int],
    expected: str,
    kueue_message: str,
) -> None:
    await kwok_nodes(1, {"nvidia.com/gpu": 16})
    await queues.add_queue("lq", quota)
    wanted = run(namespace, placement)
    (problem,) = await find_run_problems(plane, wanted)
    assert problem.startswith(f"ClusterQueue {namespace}-lq: ")
    assert expected in problem
    await assert_kueue_rejects(plane, api, wanted, kueue_message)


@pytest.mark.parametrize(
    ("asked", "own", "other"),
    [
        (6, {"borrowingLimit": "2"}, {}),
        (7, {"borrowingLimit": "2"}, {}),
        (6, {}, {"lendingLimit": "2"}),
        (7, {}, {"lendingLimit": "2"}),
        (8, {}, {}),
        (9, {}, {}),
    ],
)
async def test_borrowing_agrees_with_kueue(
    plane: ControlPlane,
    api: KubeApi,
    namespace: str,
    queues: Queues,
    kwok_nodes,
    asked: int,
    own: Object,
    other: Object,
) -> None:
    await kwok_nodes(1, {"nvidia.com/gpu": 16})
    for name, limits in (("lq", own), ("other", other)):
        await queues.add_queue(name, {"nvidia.com/gpu": 4}, cohortName=namespace)
        found = await api.get(CLUSTER_QUEUES, f"{namespace}-{name}")
        found["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0].update(limits)
        await api.patch(CLUSTER_QUEUES, f"{namespace}-{name}", {"spec": found["spec"]})
    wanted = run(namespace, Placement(accelerator=f"gpu:{asked}"))
    hopeless = bool(await find_run_problems(plane, wanted))
    await api.create(build_job(wanted.units[0], wanted))
    one = await wait_for_workload(plane, api, namespace, wanted.units[0].name, "maximum capacity")
    assert has_condition(one, "QuotaReserved") is not hopeless
    await delete_jobs(api, namespace)


async def test_stopped_inactive_and_unselected_queues(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, created: list[Object]
) -> None:
    wanted = run(namespace, Placement())
    name = await queues.add_queue("lq", {"nvidia.com/gpu": 8})
    await api.patch(CLUSTER_QUEUES, name, {"spec": {"stopPolicy": "Hold"}})
    assert "is stopped (stopPolicy Hold)" in (await find_run_problems(plane, wanted))[0]
    await api.patch(CLUSTER_QUEUES, name, {"spec": {"stopPolicy": "None", "namespaceSelector": None}})
    assert f"does not select namespace {namespace}" in (await find_run_problems(plane, wanted))[0]
    flavorless = {"name": f"{namespace}-none", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": 8}]}
    group = {"coveredResources": ["nvidia.com/gpu"], "flavors": [flavorless]}
    changed = {"namespaceSelector": {}, "resourceGroups": [group]}
    await api.patch(CLUSTER_QUEUES, name, {"spec": changed})
    assert await find_run_problems(plane, wanted) == [
        f"ClusterQueue {name}: names ResourceFlavor {namespace}-none, which does not exist; "
        "create it with epp-batch queues"
    ]


async def test_unreadable_objects_are_not_judged(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues
) -> None:
    await queues.add_queue("lq", {"nvidia.com/gpu": 0})
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list"]},
        {"apiGroups": ["kueue.x-k8s.io"], "resources": ["localqueues"], "verbs": ["get", "list"]},
    ]
    kubeconfig = await plane.create_user(namespace, "submitter", rules)
    wanted = run(namespace, Placement())
    async with open_client(str(kubeconfig)) as client:

        async def allowed() -> bool:
            with contextlib.suppress(Exception):
                return (await read_cluster(client, namespace)).inventory.local_queues != []
            return False

        await plane.wait_until("the role is bound", allowed)
        inventory = (await read_cluster(client, namespace)).inventory
        assert inventory.cluster_queues is None
        assert find_problems(wanted, inventory) == []
        assert await dry_run_jobs(client, wanted) == []
        forbidden = await plane.create_user(namespace, "onlooker", rules[1:])
    async with open_client(str(forbidden)) as client:
        (problem,) = await dry_run_jobs(client, wanted)
        assert "cannot create resource" in problem.message
