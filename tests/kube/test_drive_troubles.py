"""Failures on a cluster, with pods that are processes: each is explained, and no work is lost or done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from epp.clock import SystemClock
from epp_batch.controller.drive import drive_run
from epp_batch.errors import ClusterError
from epp_batch.kube.client import ApiClient, open_client
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import Placement, Run
from epp_batch.timeline import read_events
from tests.kube.cluster.client import JOBS, PODS, WORKLOADS, KubeApi
from tests.kube.cluster.cloud_provider import remove_node
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues
from tests.kube.drive_runs import AcceleratedClock, RecordingView, make_run
from tests.kube.drive_stage import WORKER, DriverHarness

GPU = {"nvidia.com/gpu": 1}


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncIterator[ApiClient]:
    async with open_client(str(plane.kubeconfig)) as client:
        yield client


@pytest.fixture
async def stage(
    plane: ControlPlane, api: KubeApi, client: ApiClient, namespace: str, tmp_path: Path
) -> AsyncIterator[DriverHarness]:
    folder = tmp_path / "out"
    folder.mkdir()
    stage = DriverHarness(plane, api, client, namespace, folder)
    yield stage
    await stage.tasks.close()


async def test_a_preempted_unit_is_admitted_again_and_finishes(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    await process_nodes(1, GPU, WORKER)
    await queues.add_queue("lq", GPU, preemption={"withinClusterQueue": "LowerPriority"})
    high = await queues.add_priority_class("high", 1000)
    low = make_run("low", stage.folder, namespace, ["a"])
    driving = stage.start_driver(low)
    await stage.wait_for_starts("a")
    urgent = stage.folder.parent / "urgent"
    urgent.mkdir()
    other = DriverHarness(stage.plane, stage.api, stage.client, namespace, urgent)
    vip = make_run("vip", urgent, namespace, ["b"])
    placed = {"*": Placement(accelerator="gpu", priority_class=high)}
    vip = Run(
        name=vip.name, output=vip.output, options=vip.options, units=vip.units, cluster=_with_placements(vip, placed)
    )
    other.instruct_worker("b", "done")
    try:
        await asyncio.wait_for(other.start_driver(vip), 60)
    finally:
        await other.tasks.close()
    assert (stage.folder / "a.sigterm").exists()
    stage.instruct_worker("a", "done")
    outcome = await asyncio.wait_for(driving, 60)
    assert outcome.exit_code == 0
    first = ["created", "queued", "reserved", "admitted", "running", "evicted"]
    kinds = [kind for kind in stage.view.event_kinds(stage.unit_name("a")) if kind != "requeued"]
    assert kinds == [*first, "reserved", "admitted", "running", "finished"]
    assert stage.event_details("a", "evicted") == ["Preempted: InClusterQueue"]
    assert [e.attempt for e in stage.view.events if e.kind in ("admitted", "evicted", "finished")] == [1, 1, 2, 2]
    assert (stage.view.statuses[-1].preempted, stage.view.statuses[-1].retried) == (1, 0)
    assert stage.count_starts("a") == 2


def _with_placements(ours: Run, placements: dict[str, Placement]) -> object:
    import msgspec

    return msgspec.structs.replace(ours.cluster, placements=placements)


async def test_failed_pods_are_retried_up_to_the_backoff_limit(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    agent = await process_nodes(2, {"nvidia.com/gpu": 2}, WORKER)
    await queues.add_queue("lq", {"nvidia.com/gpu": 4})
    driving = stage.start_driver(make_run("r", stage.folder, namespace, ["oom", "evicted", "lost", "fine"], retries=1))
    for stem in ("oom", "evicted", "lost"):
        await stage.wait_for_starts(stem)
    stage.instruct_worker("fine", "done")
    agent.kill_container(namespace, await stage.wait_for_running_pod("oom"))
    await agent.evict_pod(namespace, await stage.wait_for_running_pod("evicted"))
    await stage.wait_for_starts("oom", 2)
    await stage.wait_for_starts("evicted", 2)
    agent.kill_container(namespace, await stage.wait_for_running_pod("oom"))
    stage.instruct_worker("evicted", "done")
    # a removed node takes all its unfinished pods with it: only the one that is meant may be left
    await stage.wait_for_event("failed", "oom")
    await stage.wait_for_event("finished", "evicted")
    await stage.wait_for_event("finished", "fine")
    node = (await stage.api.get(PODS, await stage.wait_for_running_pod("lost"), namespace))["spec"]["nodeName"]
    await agent.lose_node(node)
    await remove_node(stage.api, node)
    await stage.wait_for_starts("lost", 2)
    stage.instruct_worker("lost", "done")
    outcome = await asyncio.wait_for(driving, 60)
    assert sorted(outcome.done) == ["evicted", "fine", "lost"]
    [failure] = outcome.failed
    assert (failure.kind, failure.stage, outcome.exit_code) == ("killed", "pod", 1)
    assert "exit code 137 (OOMKilled)" in failure.message
    assert "--memory" in failure.remedy
    assert OutputFolder(stage.folder).load_failure("oom") == failure
    assert stage.view.failures == [failure]
    assert [text.split(": ", 1)[1] for text in stage.event_details("oom", "retried")] == ["exit code 137 (OOMKilled)"]
    [evicted], [lost] = stage.event_details("evicted", "retried"), stage.event_details("lost", "retried")
    assert "TerminationByKubelet" in evicted
    assert "DeletionByPodGC" in lost
    assert [stage.count_starts(stem) for stem in ("oom", "evicted", "lost", "fine")] == [2, 2, 2, 1]


async def test_the_last_failure_is_no_retry_although_the_first_pod_was_deleted_with_its_node(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    agent = await process_nodes(2, GPU, WORKER)
    await queues.add_queue("lq", GPU)
    driving = stage.start_driver(make_run("r", stage.folder, namespace, ["oom"], retries=1))
    await stage.wait_for_starts("oom")
    first = await stage.wait_for_running_pod("oom")
    node = (await stage.api.get(PODS, first, namespace))["spec"]["nodeName"]
    agent.kill_container(namespace, first)
    await stage.wait_for_event("retried", "oom")
    await agent.lose_node(node)
    await remove_node(stage.api, node)
    await stage.wait_for_starts("oom", 2)
    agent.kill_container(namespace, await stage.wait_for_running_pod("oom"))
    outcome = await asyncio.wait_for(driving, 60)
    assert [failure.message for failure in outcome.failed] == ["exit code 137 (OOMKilled)"]
    assert stage.event_details("oom", "retried") == [f"{first}: exit code 137 (OOMKilled)"]


async def test_the_workers_own_failure_is_recorded_and_other_recordings_continue(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    await process_nodes(1, {"nvidia.com/gpu": 3}, WORKER)
    await queues.add_queue("lq", {"nvidia.com/gpu": 3})
    for stem, words in (("bad", "fail CORRUPT"), ("good", "done"), ("odd", "exit 3")):
        stage.instruct_worker(stem, words)
    ours = make_run("r", stage.folder, namespace, ["bad", "good", "odd"], retries=0)
    outcome = await asyncio.wait_for(stage.start_driver(ours), 60)
    failures = {failure.source.rsplit("/", 1)[1]: failure for failure in outcome.failed}
    assert sorted(outcome.done) == ["good"]
    assert (failures["bad.wav"].kind, failures["bad.wav"].stage) == ("corrupt", "decode")
    assert (failures["odd.wav"].kind, failures["odd.wav"].message) == ("internal", "exit code 3")
    assert stage.count_starts("bad") == 1  # FailJob: a permanent failure is not retried

    # a second run repeats nothing; with retry_failed only what failed
    stage.view = RecordingView()
    again = await asyncio.wait_for(stage.start_driver(ours), 60)
    assert (sorted(again.done), len(again.failed), stage.view.events) == (["good"], 2, [])
    stage.instruct_worker("bad", "done")
    stage.instruct_worker("odd", "done")
    third = await asyncio.wait_for(stage.start_driver(ours, retry_failed=True), 60)
    assert (sorted(third.done), third.failed) == (["bad", "good", "odd"], [])
    assert (stage.count_starts("bad"), stage.count_starts("good"), stage.count_starts("odd")) == (2, 1, 2)
    attempts = {e.attempt for e in read_events(OutputFolder(stage.folder).events_file) if e.kind == "admitted"}
    assert attempts == {1, 2}


async def test_an_outage_of_the_api_server_is_shown_and_survived(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str, plane: ControlPlane
) -> None:
    await process_nodes(1, {"nvidia.com/gpu": 1}, WORKER)
    await queues.add_queue("lq", GPU)
    driving = stage.start_driver(make_run("r", stage.folder, namespace, ["a", "b"]))
    await stage.wait_for_event("running", "a", "b")
    await plane.stop_program("kube-apiserver")
    try:

        async def is_shown() -> bool:
            return any("does not answer" in text for tick in stage.view.statuses for text in tick.troubles)

        for _ in range(600):
            if await is_shown():
                break
            await asyncio.sleep(0.1)
        assert await is_shown()
        stage.instruct_worker("a", "done")
        stage.instruct_worker("b", "done")
    finally:
        await plane.start_program("kube-apiserver")
    outcome = await asyncio.wait_for(driving, 90)
    assert (sorted(outcome.done), outcome.exit_code) == (["a", "b"], 0)
    assert stage.view.statuses[-1].troubles == ()
    assert (stage.count_starts("a"), stage.count_starts("b")) == (1, 1)
    for stem in ("a", "b"):
        kinds = stage.view.event_kinds(stage.unit_name(stem))
        assert sorted(kinds) == sorted(set(kinds))


async def test_a_second_driver_records_no_event_twice(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    await process_nodes(1, {"nvidia.com/gpu": 1}, WORKER)
    await queues.add_queue("lq", GPU)
    ours = make_run("r", stage.folder, namespace, ["a", "b"])
    first = stage.start_driver(ours)
    await stage.wait_for_event("running", "a", "b")
    with pytest.raises(ClusterError, match="another driver"):
        await drive_run(
            ours,
            OutputFolder(stage.folder),
            client=stage.client,
            clock=SystemClock(),
            tasks=stage.tasks,
            view=RecordingView(),
        )
    first.cancel()
    await asyncio.wait([first])
    stage.instruct_worker("a", "done")
    stage.instruct_worker("b", "done")

    async def both_complete() -> bool:
        return all(job["status"].get("completionTime") for job in await stage.api.list(JOBS, namespace))

    await stage.plane.wait_until("both Jobs are complete, without a driver", both_complete)
    outcome = await asyncio.wait_for(stage.start_driver(ours), 60)
    assert outcome.exit_code == 0
    recorded = [(event.unit, event.kind) for event in read_events(OutputFolder(stage.folder).events_file)]
    assert len(recorded) == len(set(recorded)) == 12


async def test_a_job_deleted_by_a_user_is_cancelled_and_not_created_again(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    await process_nodes(1, {"nvidia.com/gpu": 2}, WORKER)
    await queues.add_queue("lq", {"nvidia.com/gpu": 2})
    driving = stage.start_driver(make_run("r", stage.folder, namespace, ["a", "b"]))
    await stage.wait_for_starts("a")
    await stage.wait_for_event("running", "b")
    await stage.api.delete(JOBS, stage.unit_name("b"), namespace, propagationPolicy="Background")
    stage.instruct_worker("a", "done")
    outcome = await asyncio.wait_for(driving, 60)
    assert (sorted(outcome.done), outcome.failed, outcome.exit_code) == (["a"], [], 1)
    assert [source.rsplit("/", 1)[1] for source in outcome.cancelled] == ["b.wav"]
    assert stage.view.event_kinds(stage.unit_name("b"))[-1] == "cancelled"


async def test_results_come_from_termination_messages_if_the_folder_is_not_shared(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    await process_nodes(1, GPU, WORKER)
    await queues.add_queue("lq", GPU)
    (stage.folder / "notes.wanted").touch()
    stage.instruct_worker("a", "done")
    ours = make_run("r", stage.folder, namespace, ["a"])
    outcome = await asyncio.wait_for(stage.start_driver(ours), 60)
    assert outcome.done["a"].audio_seconds == 60.0
    assert outcome.done["a"].host == f"{namespace}-p0"
    assert OutputFolder(stage.folder).find_finished_result(ours.units[0].tasks[0], ours.options) == outcome.done["a"]


async def test_a_waiting_job_with_another_spec_is_replaced(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    await process_nodes(1, GPU, WORKER)
    await queues.add_queue("lq", GPU)
    ours = make_run("r", stage.folder, namespace, ["a", "b"])
    first = stage.start_driver(ours)
    running = await stage.wait_for_event("running", "a", "b")
    waiting = "b" if running == "a" else "a"
    await stage.wait_for_event("queued", waiting)
    first.cancel()
    await asyncio.wait([first])
    before = {job["metadata"]["name"]: job["metadata"]["uid"] for job in await stage.api.list(JOBS, namespace)}
    other = _with_placements(ours, {"*": Placement(accelerator="gpu", cpu=None, model_path="/models/other")})
    changed = Run(name=ours.name, output=ours.output, options=ours.options, units=ours.units, cluster=other)
    driving = stage.start_driver(changed)
    for stem in ("a", "b"):
        stage.instruct_worker(stem, "done")
    assert (await asyncio.wait_for(driving, 60)).exit_code == 0
    after = {job["metadata"]["name"]: job["metadata"]["uid"] for job in await stage.api.list(JOBS, namespace)}
    assert (
        after[stage.unit_name(running)] == before[stage.unit_name(running)]
    )  # a running Job is never stopped for another spec
    assert after[stage.unit_name(waiting)] != before[stage.unit_name(waiting)]
    assert len(await stage.api.list(WORKLOADS, namespace)) == 2


async def test_a_deleted_transcript_is_made_again(
    stage: DriverHarness, queues: Queues, process_nodes: Callable, namespace: str
) -> None:
    await process_nodes(1, {"nvidia.com/gpu": 2}, WORKER)
    await queues.add_queue("lq", {"nvidia.com/gpu": 2})
    ours = make_run("r", stage.folder, namespace, ["a", "b"])
    for stem in ("a", "b"):
        stage.instruct_worker(stem, "done")
    assert (await asyncio.wait_for(stage.start_driver(ours), 60)).exit_code == 0
    (stage.folder / "a.done.json").unlink()
    outcome = await asyncio.wait_for(stage.start_driver(ours, clock=AcceleratedClock()), 60)
    assert (sorted(outcome.done), outcome.exit_code) == (["a", "b"], 0)
    assert (stage.count_starts("a"), stage.count_starts("b")) == (2, 1)
