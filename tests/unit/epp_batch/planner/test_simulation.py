"""Runs in virtual time: the paper's figures, preemption, and what could never run."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.planner import ControlPlaneDelays, build_gpu_nodes, compute_timeline_stats, simulate_jobs
from epp_batch.planner.cluster_model import ClusterModel, ClusterQueuePreemption, KueueObjects, WaitForPodsReady
from epp_batch.planner.timeline_stats import compute_makespan_bound
from tests.unit.epp_batch.planner.builders import gpu_cluster_queue, kueue_objects, paper_jobs, planned_job

MINUTE = 60
PREEMPTING = ClusterQueuePreemption(within_cluster_queue="LowerPriority")


def spans(events, kind="finished"):
    return {event.unit: event.at for event in events if event.kind == kind}


def test_the_papers_mean_of_28_minutes_on_whole_gpus():
    world = ClusterModel(nodes=build_gpu_nodes(), delays=ControlPlaneDelays(submit_interval=1))
    got = compute_timeline_stats(simulate_jobs(world, paper_jobs(world, {"*": "gpu"})))
    assert got.mean / MINUTE == pytest.approx(28, abs=0.1)
    assert got.makespan / MINUTE == pytest.approx(51.4, abs=0.1)
    assert got.peak == 8


def test_the_papers_mean_of_18_minutes_and_25_at_once_on_slices():
    world = ClusterModel(nodes=build_gpu_nodes(sharing="das"), delays=ControlPlaneDelays(submit_interval=1))
    wanted = paper_jobs(world, {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"})
    got = compute_timeline_stats(simulate_jobs(world, wanted))
    assert got.mean / MINUTE == pytest.approx(18, abs=0.1)
    assert got.peak == 25
    assert got.makespan == pytest.approx(compute_makespan_bound(wanted, world.nodes), abs=4)


@pytest.mark.parametrize(("resumes", "end"), [(True, 260), (False, 310)])
def test_a_preempted_worker_goes_on_or_starts_anew(resumes, end):
    world = ClusterModel(
        nodes=build_gpu_nodes(gpus=1),
        kueue=kueue_objects(gpu_cluster_queue("q", 1, preemption=PREEMPTING)),
        delays=ControlPlaneDelays(requeue_batch_period=0),
        resume_after_preemption=resumes,
    )
    low = msgspec.structs.replace(planned_job("low", work=140), startup_seconds=10)
    events = simulate_jobs(world, [low, planned_job("high", priority=9, work=100)], [0, 60])
    assert spans(events, "evicted") == {"low": 60}
    assert spans(events) == {"high": 160, "low": end}
    assert [event.attempt for event in events if event.kind == "running" and event.unit == "low"] == [1, 2]


def test_freed_quota_is_looked_at_again_a_second_later():
    world = ClusterModel(nodes=build_gpu_nodes(gpus=1), kueue=kueue_objects(gpu_cluster_queue("q", 1)))
    assert spans(simulate_jobs(world, [planned_job("a"), planned_job("b")]), "admitted") == {"a": 0, "b": 101}


def test_delays_of_start_stop_and_end_add_up():
    delays = ControlPlaneDelays(requeue_batch_period=1, pod_startup=2, job_completion=3)
    world = ClusterModel(nodes=build_gpu_nodes(gpus=1), kueue=kueue_objects(gpu_cluster_queue("q", 1)), delays=delays)
    assert spans(simulate_jobs(world, [planned_job("a"), planned_job("b")]), "running") == {
        "a": 2,
        "b": 2 + 100 + 3 + 1 + 2,
    }


def test_a_pod_that_is_evicted_before_it_starts_never_runs_and_one_that_stops_does_not_finish():
    world = ClusterModel(
        nodes=build_gpu_nodes(gpus=1),
        kueue=kueue_objects(gpu_cluster_queue("q", 1, preemption=PREEMPTING)),
        delays=ControlPlaneDelays(requeue_batch_period=1, pod_startup=5, pod_termination=10),
        resume_after_preemption=False,
    )
    events = simulate_jobs(world, [planned_job("low"), planned_job("high", priority=9)], [0, 2])
    assert spans(events, "evicted") == {"low": 2}
    assert spans(events, "running") == {"high": 17, "low": 123}
    late = simulate_jobs(world, [planned_job("low"), planned_job("high", priority=9)], [0, 100])
    assert [event.at for event in late if event.unit == "low" and event.kind == "finished"] == [
        100 + 10 + 105 + 1 + 105
    ]
    assert compute_timeline_stats(late).peak == 1


def test_quota_for_a_gpu_that_is_taken_comes_back_and_the_workload_is_given_up_in_the_end():
    ready = WaitForPodsReady(timeout=30, backoff_base_seconds=60, backoff_limit_count=2)
    world = ClusterModel(
        nodes=build_gpu_nodes(gpus=1), kueue=kueue_objects(gpu_cluster_queue("q", 9), wait_for_pods_ready=ready)
    )
    all_events = simulate_jobs(world, [planned_job("first", work=10_000), planned_job("second")])
    events = [event for event in all_events if event.unit == "second"]
    times = [
        (event.at, event.kind, event.detail) for event in events if event.kind in {"admitted", "evicted", "failed"}
    ]
    assert [(kind, detail) for _, kind, detail in times[:4]] == [
        ("admitted", ""), ("evicted", "PodsReadyTimeout"), ("admitted", ""), ("evicted", "PodsReadyTimeout"),
    ]  # fmt: skip
    assert times[1][0] == 30
    assert times[2][0] == pytest.approx(90, abs=2)
    assert times[-1][1:] == ("failed", "deactivated: its pods were not ready in time too often")


def test_what_can_never_fit_is_given_up_at_the_first_timeout_even_without_a_limit():
    world = ClusterModel(
        nodes=build_gpu_nodes(gpus=1),
        kueue=kueue_objects(gpu_cluster_queue("q", 9), wait_for_pods_ready=WaitForPodsReady(timeout=30)),
    )
    events = simulate_jobs(world, [planned_job("big", gpus=2), planned_job("small")])
    assert [(event.at, event.detail) for event in events if event.kind == "failed"] == [
        (30, "admitted, but no node has what it asks for")
    ]
    assert spans(events) == {"small": 100}


def test_a_pod_that_gets_its_place_late_is_not_given_up_without_a_limit():
    world = ClusterModel(
        nodes=build_gpu_nodes(gpus=1),
        kueue=kueue_objects(gpu_cluster_queue("q", 9), wait_for_pods_ready=WaitForPodsReady(timeout=30)),
    )
    events = simulate_jobs(world, [planned_job("first", work=1000), planned_job("second")])
    assert spans(events)["first"] == 1000
    assert 1000 < spans(events)["second"] < 1000 + 2 * 1000
    assert compute_timeline_stats(events).failed == 0


@pytest.mark.parametrize(
    ("kind", "wanted", "why"),
    [
        (kueue_objects(gpu_cluster_queue("q", 4)), planned_job("u", "elsewhere"), "no LocalQueue elsewhere"),
        (
            KueueObjects(cluster_queues=(), local_queues={"q": "gone"}),
            planned_job("u"),
            "LocalQueue q needs ClusterQueue gone",
        ),
        (
            kueue_objects(gpu_cluster_queue("q", 1)),
            planned_job("u", gpus=2),
            "never admitted: nvidia.com/gpu: 2 asked for, but flavor f of",
        ),
        (
            kueue_objects(gpu_cluster_queue("q", 9)),
            planned_job("u", accelerator="mig:1g.5gb"),
            "never admitted: nvidia.com/mig-1g.5gb is not",
        ),
        (
            kueue_objects(gpu_cluster_queue("q", 9)),
            planned_job("u", gpus=9),
            "admitted, but no node has what it asks for",
        ),
        (
            kueue_objects(gpu_cluster_queue("q", 9, is_stopped=True)),
            planned_job("u"),
            "never admitted: ClusterQueue q is stopped",
        ),
        (None, planned_job("u", gpus=9), "no node has what it asks for"),
    ],
)
def test_whoever_could_never_run_says_why(kind, wanted, why):
    events = simulate_jobs(ClusterModel(nodes=build_gpu_nodes(), kueue=kind), [wanted])
    assert events[-1].kind == "failed"
    assert events[-1].detail.startswith(why)
    assert compute_timeline_stats(events).failed == 1


def test_equal_input_gives_equal_events():
    world = ClusterModel(
        nodes=build_gpu_nodes(),
        kueue=kueue_objects(gpu_cluster_queue("q", 8)),
        delays=ControlPlaneDelays(submit_interval=1),
    )
    wanted = paper_jobs(world, {"*": "gpu"})
    assert simulate_jobs(world, wanted) == simulate_jobs(world, wanted)
