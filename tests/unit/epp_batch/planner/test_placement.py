"""Placement of pods: whole GPUs, DAS, DRA, static slices."""

from __future__ import annotations

import pytest

from epp_batch.planner import build_gpu_nodes
from epp_batch.planner.cluster_model import ClusterModel, GpuNode
from epp_batch.planner.placement import PodScheduler
from tests.unit.epp_batch.planner.builders import paper_jobs, planned_job

SLICES = {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"}


def schedule_all(nodes, jobs):
    scheduler = PodScheduler(nodes)
    return [scheduler.schedule_pod(job) for job in jobs]


@pytest.mark.parametrize(("order", "fit"), [("as submitted", 25), ("medium first", 27), ("large first", 16)])
def test_number_of_paper_jobs_that_first_fit_places_at_once(order, fit):
    nodes = build_gpu_nodes(sharing="das")
    jobs = paper_jobs(ClusterModel(nodes=nodes), SLICES)
    if order != "as submitted":
        jobs.sort(key=lambda job: job.model, reverse=order == "medium first")
    assert sum(place is not None for place in schedule_all(nodes, jobs)) == fit


def test_dra_takes_the_first_start_that_fits():
    jobs = [
        planned_job(str(i), accelerator=f"dra:{name}")
        for i, name in enumerate(["1g.5gb", "3g.20gb", "3g.20gb", "1g.5gb"])
    ]
    places = schedule_all(build_gpu_nodes(gpus=2, sharing="dra"), jobs)
    assert [str(place) for place in places] == [
        "node-0/gpu-0/0-0", "node-0/gpu-0/4-7", "node-0/gpu-1/0-3", "node-0/gpu-0/1-1",
    ]  # fmt: skip


def test_whole_gpus_are_released():
    scheduler = PodScheduler(build_gpu_nodes(gpus=2))
    one, two = planned_job("one"), planned_job("two", gpus=2)
    place = scheduler.schedule_pod(one)
    assert str(place) == "node-0/gpu-0"
    assert scheduler.schedule_pod(two) is None
    scheduler.remove_pod(one, place)
    assert scheduler.schedule_pod(two).gpu_slices[1].gpu_index == 1


def test_das_nodes_have_no_whole_gpus_and_whole_nodes_no_slices():
    assert schedule_all(build_gpu_nodes(sharing="das"), [planned_job("whole")]) == [None]
    assert schedule_all(build_gpu_nodes(sharing="whole"), [planned_job("slice", accelerator="mig:1g.5gb")]) == [None]


def test_scores_prefer_fewest_pods_and_with_das_most_free_slots():
    jobs = [planned_job(str(i)) for i in range(3)]
    assert [place.node for place in schedule_all(build_gpu_nodes(2, gpus=2), jobs)] == ["node-0", "node-1", "node-0"]
    slices = [planned_job(name, accelerator=f"mig:{name}") for name in ("7g.40gb", "1g.5gb", "3g.20gb", "1g.5gb")]
    assert [str(place) for place in schedule_all(build_gpu_nodes(2, gpus=1, sharing="das"), slices)] == [
        "node-0/gpu-0/0-7", "node-1/gpu-0/0-0", "node-1/gpu-0/4-7", "node-1/gpu-0/1-1",
    ]  # fmt: skip


def test_static_nodes_place_only_existing_slices():
    cut = {"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-1g.5gb": 3}
    node = GpuNode(name="n", gpu_count=1, gpu_model="A100-40", gpu_sharing="static", allocatable=cut)
    jobs = [
        planned_job(str(i), accelerator=f"mig:{name}") for i, name in enumerate(["3g.20gb", "3g.20gb", *["1g.5gb"] * 4])
    ]
    places = schedule_all([node], jobs)
    assert [str(place) if place else None for place in places] == [
        "n/gpu-0/0-3", None, "n/gpu-0/4-4", "n/gpu-0/5-5", "n/gpu-0/6-6", None,
    ]  # fmt: skip


def test_cpu_requests_and_node_selector_limit_placement():
    node = GpuNode(name="n", gpu_count=2, labels={"zone": "a"}, allocatable={"cpu": 3000})
    scheduler = PodScheduler([node])
    heavy = planned_job("heavy")
    heavy.requests["cpu"] = 2000
    assert scheduler.schedule_pod(heavy, {"zone": "b"}) is None
    assert scheduler.schedule_pod(heavy, {"zone": "a"}) is not None
    assert scheduler.schedule_pod(heavy) is None
