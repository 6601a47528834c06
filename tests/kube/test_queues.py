"""What is generated is taken by the real API server and by Kueue's webhooks; what preflight says is what Kueue does."""

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
async def made(api: KubeApi) -> AsyncIterator[list[Object]]:
    """Cluster-wide objects that a test has made; deleted after it, last made first."""
    every: list[Object] = []
    yield every
    for one in reversed(every):
        await api.delete(await api.find_resource(one), one["metadata"]["name"])


async def create(api: KubeApi, made: list[Object], *documents: Object) -> None:
    for document in documents:
        await api.create(document, fieldValidation="Strict")
        if document["metadata"].get("namespace") is None:
            made.append(document)


async def active(plane: ControlPlane, api: KubeApi, kind: object, name: str, namespace: str = "") -> None:
    async def is_active() -> bool:
        found = await api.get(kind, name, namespace)  # type: ignore[arg-type]
        if not has_condition(found, "Active"):
            raise NotReady(found.get("status"))
        return True

    await plane.wait_until(f"{name} is active", is_active)


@pytest.mark.parametrize("name", QUEUE_PRESETS)
async def test_every_preset_is_taken_and_its_queues_are_active(
    plane: ControlPlane, api: KubeApi, namespace: str, made: list[Object], name: str
) -> None:
    settings = build_preset(name, namespace, 8).with_prefix(f"{namespace}-")
    await create(api, made, *build_kueue_objects(settings))
    for queue in settings.queues:
        await active(plane, api, CLUSTER_QUEUES, queue.name)
        for local in queue.local_queues:
            await active(plane, api, LOCAL_QUEUES, local, namespace)


async def test_a_job_of_every_accelerator_is_taken_to_the_letter(api: KubeApi, namespace: str) -> None:
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


async def test_slices_are_charged_as_slots(
    plane: ControlPlane, api: KubeApi, namespace: str, made: list[Object]
) -> None:
    settings = build_preset("slots", namespace, 1).with_prefix(f"{namespace}-")
    needed = build_manager_configuration(settings)
    async with plane.with_kueue_configuration(
        resources=needed["resources"], waitForPodsReady=needed["waitForPodsReady"]
    ):
        await create(api, made, *build_kueue_objects(settings))
        await active(plane, api, LOCAL_QUEUES, "whisper", namespace)
        slices = ["mig:3g.20gb", "mig:2g.10gb", "mig:1g.5gb", "mig:2g.10gb"]
        wanted = run(namespace, *(Placement(accelerator=text) for text in slices), queue="whisper")
        for unit in wanted.units:
            await api.create(build_job(unit, wanted))
            await workload(plane, api, namespace, unit.name, "insufficient unused quota")

        async def full() -> bool:
            reserved = [one for one in await api.list(WORKLOADS, namespace) if has_condition(one, "QuotaReserved")]
            usages = [use for one in reserved for use in one["status"]["admission"]["podSetAssignments"]]
            if sorted(int(use["resourceUsage"][MIG_SLOTS_RESOURCE]) for use in usages) != [1, 2, 4]:
                raise NotReady(usages)
            return True

        await plane.wait_until("seven of eight slots are taken", full)
        await release(api, namespace)


async def workload(plane: ControlPlane, api: KubeApi, namespace: str, name: str, *said: str) -> Object:
    """The Workload of a Job, once Kueue has reserved its quota, or has said one of `said`."""

    async def judged() -> Object:
        for one in await api.list(WORKLOADS, namespace):
            if one["metadata"]["ownerReferences"][0]["name"] == name:
                if has_condition(one, "QuotaReserved") or any(text in messages(one) for text in said):
                    return one
                raise NotReady(messages(one))
        raise NotReady(name)

    return await plane.wait_until(f"Kueue has judged {name}", judged)


def messages(workload: Object) -> str:
    return " ".join(str(condition.get("message")) for condition in workload.get("status", {}).get("conditions", ()))


async def release(api: KubeApi, namespace: str) -> None:
    """The queue's quota, so that it can be deleted."""
    await api.request("DELETE", JOBS.path(namespace), {"propagationPolicy": "Background"})


async def problems(plane: ControlPlane, wanted: Run) -> list[str]:
    """What preflight says about the real objects."""
    assert wanted.cluster is not None
    async with open_client(str(plane.kubeconfig)) as client:
        inventory = (await read_cluster(client, wanted.cluster.namespace)).inventory
        return [str(problem) for problem in find_problems(wanted, inventory) or await dry_run_jobs(client, wanted)]


async def refused(plane: ControlPlane, api: KubeApi, wanted: Run, said: str) -> None:
    """Kueue says so as well, and reserves nothing."""
    assert wanted.cluster is not None
    namespace = wanted.cluster.namespace
    await api.create(build_job(wanted.units[0], wanted))
    assert not has_condition(await workload(plane, api, namespace, wanted.units[0].name, said), "QuotaReserved")
    await release(api, namespace)


async def test_preflight_finds_nothing_where_kueue_admits(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, kwok_nodes
) -> None:
    await kwok_nodes(1, {"nvidia.com/gpu": 8})
    await queues.add_queue("lq", {"nvidia.com/gpu": 8, "memory": "64Gi"})
    wanted = run(namespace, Placement(accelerator="gpu:8", memory="64Gi"))
    assert await problems(plane, wanted) == []
    await api.create(build_job(wanted.units[0], wanted))

    async def admitted() -> bool:
        return any(has_condition(one, "Admitted") for one in await api.list(WORKLOADS, namespace))

    await plane.wait_until("the Job is admitted", admitted)
    await release(api, namespace)


async def test_no_such_queue_and_no_such_namespace(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues
) -> None:
    await queues.add_queue("there", {"nvidia.com/gpu": 8})
    wanted = run(namespace, Placement())
    assert await problems(plane, wanted) == [
        f"LocalQueue {namespace}/lq: does not exist in this namespace; there is there: give --queue NAME, "
        "or create one with epp-batch queues"
    ]
    await refused(plane, api, wanted, "doesn't exist")
    elsewhere = run("no-such-namespace", Placement())
    (problem,) = await problems(plane, elsewhere)
    assert problem.startswith("Namespace no-such-namespace: does not exist")


@pytest.mark.parametrize(
    ("placement", "quota", "said", "by_kueue"),
    [
        (Placement(accelerator="gpu:9"), {"nvidia.com/gpu": 8}, "9 nvidia.com/gpu of at most 8", "maximum capacity"),
        (Placement(cpu="2"), {"nvidia.com/gpu": 8}, "does not cover cpu", "unavailable in ClusterQueue"),
        (Placement(accelerator="mig:1g.5gb"), {"nvidia.com/gpu": 8}, "does not cover nvidia.com/mig-1g", "unavailable"),
        (Placement(), {"nvidia.com/gpu": 0}, "1 nvidia.com/gpu of at most 0", "maximum capacity"),
    ],
)
async def test_requests_that_can_never_fit(
    plane: ControlPlane,
    api: KubeApi,
    namespace: str,
    queues: Queues,
    kwok_nodes,
    placement: Placement,
    quota: dict[str, int],
    said: str,
    by_kueue: str,
) -> None:
    await kwok_nodes(1, {"nvidia.com/gpu": 16})
    await queues.add_queue("lq", quota)
    wanted = run(namespace, placement)
    (problem,) = await problems(plane, wanted)
    assert problem.startswith(f"ClusterQueue {namespace}-lq: ")
    assert said in problem
    await refused(plane, api, wanted, by_kueue)


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
async def test_borrowing_is_counted_as_kueue_counts_it(
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
    hopeless = bool(await problems(plane, wanted))
    await api.create(build_job(wanted.units[0], wanted))
    one = await workload(plane, api, namespace, wanted.units[0].name, "maximum capacity")
    assert has_condition(one, "QuotaReserved") is not hopeless
    await release(api, namespace)


async def test_inactive_stopped_and_closed_queues(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, made: list[Object]
) -> None:
    wanted = run(namespace, Placement())
    name = await queues.add_queue("lq", {"nvidia.com/gpu": 8})
    await api.patch(CLUSTER_QUEUES, name, {"spec": {"stopPolicy": "Hold"}})
    assert "is stopped (stopPolicy Hold)" in (await problems(plane, wanted))[0]
    await api.patch(CLUSTER_QUEUES, name, {"spec": {"stopPolicy": "None", "namespaceSelector": None}})
    assert f"does not select namespace {namespace}" in (await problems(plane, wanted))[0]
    flavorless = {"name": f"{namespace}-none", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": 8}]}
    group = {"coveredResources": ["nvidia.com/gpu"], "flavors": [flavorless]}
    changed = {"namespaceSelector": {}, "resourceGroups": [group]}
    await api.patch(CLUSTER_QUEUES, name, {"spec": changed})
    assert await problems(plane, wanted) == [
        f"ClusterQueue {name}: names ResourceFlavor {namespace}-none, which does not exist; "
        "create it with epp-batch queues"
    ]


async def test_what_a_restricted_user_may_not_see_is_not_judged(
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
