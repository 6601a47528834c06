"""Runs in virtual time: the paper's figures, preemption, delays, PodsReady timeouts, jobs that can never run."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.planner import ControlPlaneDelays, build_gpu_nodes, compute_timeline_stats, simulate_jobs
from epp_batch.planner.cluster_model import ClusterModel, ClusterQueuePreemption, KueueObjects, WaitForPodsReady
from epp_batch.planner.timeline_stats import compute_makespan_bound
from tests.unit.epp_batch.planner.builders import gpu_cluster_queue, kueue_objects, paper_jobs, planned_job

MINUTE = 60
PREEMPTING = ClusterQueuePreemption(within_cluster_queue="LowerPriority")


def times_by_unit(events, kind="finished"):
    return {event.unit: event.at for event in events if event.kind == kind}


def test_paper_mean_of_28_minutes_on_whole_gpus():
    cluster_model = ClusterModel(nodes=build_gpu_nodes(), delays=ControlPlaneDelays(submit_interval=1))
    stats = compute_timeline_stats(simulate_jobs(cluster_model, paper_jobs(cluster_model, {"*": "gpu"})))
    assert stats.mean / MINUTE == pytest.approx(28, abs=0.1)
    assert stats.makespan / MINUTE == pytest.approx(51.4, abs=0.1)
    assert stats.peak == 8


def test_paper_mean_of_18_minutes_with_25_at_once_on_slices():
    cluster_model = ClusterModel(nodes=build_gpu_nodes(sharing="das"), delays=ControlPlaneDelays(submit_interval=1))
    jobs = paper_jobs(cluster_model, {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"})
    stats = compute_timeline_stats(simulate_jobs(cluster_model, jobs))
    assert stats.mean / MINUTE == pytest.approx(18, abs=0.1)
    assert stats.peak == 25
    assert stats.makespan == pytest.approx(compute_makespan_bound(jobs, cluster_model.nodes), abs=4)


@pytest.mark.parametrize(("resumes", "end"), [(True, 260), (False, 310)])
def test_a_preempted_worker_resumes_or_starts_over(resumes, end):
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(gpus=1),
        kueue=kueue_objects(gpu_cluster_queue("q", 1, preemption=PREEMPTING)),
        delays=ControlPlaneDelays(requeue_batch_period=0),
        resume_after_preemption=resumes,
    )
    low = msgspec.structs.replace(planned_job("low", work=140), startup_seconds=10)
    events = simulate_jobs(cluster_model, [low, planned_job("high", priority=9, work=100)], [0, 60])
    assert times_by_unit(events, "evicted") == {"low": 60}
    assert times_by_unit(events) == {"high": 160, "low": end}
    assert [event.attempt for event in events if event.kind == "running" and event.unit == "low"] == [1, 2]


def test_inadmissible_workloads_are_retried_after_the_requeue_batch_period():
    cluster_model = ClusterModel(nodes=build_gpu_nodes(gpus=1), kueue=kueue_objects(gpu_cluster_queue("q", 1)))
    assert times_by_unit(simulate_jobs(cluster_model, [planned_job("a"), planned_job("b")]), "admitted") == {
        "a": 0,
        "b": 101,
    }


def test_control_plane_delays_add_up():
    delays = ControlPlaneDelays(requeue_batch_period=1, pod_startup=2, job_completion=3)
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(gpus=1), kueue=kueue_objects(gpu_cluster_queue("q", 1)), delays=delays
    )
    assert times_by_unit(simulate_jobs(cluster_model, [planned_job("a"), planned_job("b")]), "running") == {
        "a": 2,
        "b": 2 + 100 + 3 + 1 + 2,
    }


def test_a_pod_evicted_before_its_start_never_runs_and_a_terminating_one_does_not_finish():
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(gpus=1),
        kueue=kueue_objects(gpu_cluster_queue("q", 1, preemption=PREEMPTING)),
        delays=ControlPlaneDelays(requeue_batch_period=1, pod_startup=5, pod_termination=10),
        resume_after_preemption=False,
    )
    events = simulate_jobs(cluster_model, [planned_job("low"), planned_job("high", priority=9)], [0, 2])
    assert times_by_unit(events, "evicted") == {"low": 2}
    assert times_by_unit(events, "running") == {"high": 17, "low": 123}
    late = simulate_jobs(cluster_model, [planned_job("low"), planned_job("high", priority=9)], [0, 100])
    assert [event.at for event in late if event.unit == "low" and event.kind == "finished"] == [
        100 + 10 + 105 + 1 + 105
    ]
    assert compute_timeline_stats(late).peak == 1


def test_pods_ready_timeouts_back_off_and_then_deactivate_the_workload():
    ready = WaitForPodsReady(timeout=30, backoff_base_seconds=60, backoff_limit_count=2)
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(gpus=1), kueue=kueue_objects(gpu_cluster_queue("q", 9), wait_for_pods_ready=ready)
    )
    all_events = simulate_jobs(cluster_model, [planned_job("first", work=10_000), planned_job("second")])
    events = [event for event in all_events if event.unit == "second"]
    times = [
        (event.at, event.kind, event.detail) for event in events if event.kind in {"admitted", "evicted", "failed"}
    ]
    assert [(kind, detail) for _, kind, detail in times[:4]] == [
        ("admitted", ""), ("evicted", "PodsReadyTimeout"), ("admitted", ""), ("evicted", "PodsReadyTimeout"),
    ]  # fmt: skip
    assert times[1][0] == 30
    assert times[2][0] == pytest.approx(90, abs=2)
    assert times[-1][1:] == ("failed", "deactivated: pods were not ready in time too often")


def test_a_workload_that_fits_no_node_is_deactivated_at_the_first_timeout():
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(gpus=1),
        kueue=kueue_objects(gpu_cluster_queue("q", 9), wait_for_pods_ready=WaitForPodsReady(timeout=30)),
    )
    events = simulate_jobs(cluster_model, [planned_job("big", gpus=2), planned_job("small")])
    assert [(event.at, event.detail) for event in events if event.kind == "failed"] == [
        (30, "admitted, but no node has the resources its pod requests")
    ]
    assert times_by_unit(events) == {"small": 100}


def test_without_backoff_limit_a_workload_is_requeued_until_it_runs():
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(gpus=1),
        kueue=kueue_objects(gpu_cluster_queue("q", 9), wait_for_pods_ready=WaitForPodsReady(timeout=30)),
    )
    events = simulate_jobs(cluster_model, [planned_job("first", work=1000), planned_job("second")])
    assert times_by_unit(events)["first"] == 1000
    assert 1000 < times_by_unit(events)["second"] < 1000 + 2 * 1000
    assert compute_timeline_stats(events).failed == 0


@pytest.mark.parametrize(
    ("kind", "jobs", "reason"),
    [
        (
            kueue_objects(gpu_cluster_queue("q", 4)),
            planned_job("u", "elsewhere"),
            "LocalQueue elsewhere does not exist",
        ),
        (
            KueueObjects(cluster_queues=(), local_queues={"q": "gone"}),
            planned_job("u"),
            "ClusterQueue gone of LocalQueue q does not exist",
        ),
        (
            kueue_objects(gpu_cluster_queue("q", 1)),
            planned_job("u", gpus=2),
            "never admitted: insufficient quota for nvidia.com/gpu in flavor f of",
        ),
        (
            kueue_objects(gpu_cluster_queue("q", 9)),
            planned_job("u", accelerator="mig:1g.5gb"),
            "never admitted: resource nvidia.com/mig-1g.5gb is not",
        ),
        (
            kueue_objects(gpu_cluster_queue("q", 9)),
            planned_job("u", gpus=9),
            "admitted, but no node has the resources its pod requests",
        ),
        (
            kueue_objects(gpu_cluster_queue("q", 9, is_stopped=True)),
            planned_job("u"),
            "never admitted: ClusterQueue q is stopped",
        ),
        (None, planned_job("u", gpus=9), "no node has the resources its pod requests"),
    ],
)
def test_a_job_that_can_never_run_fails_with_the_reason(kind, jobs, reason):
    events = simulate_jobs(ClusterModel(nodes=build_gpu_nodes(), kueue=kind), [jobs])
    assert events[-1].kind == "failed"
    assert events[-1].detail.startswith(reason)
    assert compute_timeline_stats(events).failed == 1


def test_equal_input_gives_equal_events():
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(),
        kueue=kueue_objects(gpu_cluster_queue("q", 8)),
        delays=ControlPlaneDelays(submit_interval=1),
    )
    jobs = paper_jobs(cluster_model, {"*": "gpu"})
    assert simulate_jobs(cluster_model, jobs) == simulate_jobs(cluster_model, jobs)
