"""Placement: whole GPUs, DAS, DRA, slices cut beforehand."""

from __future__ import annotations

import pytest

from epp_batch.planner import build_gpu_nodes
from epp_batch.planner.cluster_model import ClusterModel, GpuNode
from epp_batch.planner.placement import PodScheduler
from tests.unit.epp_batch.planner.builders import paper_jobs, planned_job

SLICES = {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"}


def placed(nodes, wanted):
    machines = PodScheduler(nodes)
    return [machines.schedule_pod(demand) for demand in wanted]


@pytest.mark.parametrize(("order", "fit"), [("as submitted", 25), ("medium first", 27), ("large first", 16)])
def test_how_many_of_the_papers_jobs_first_fit_places_at_once(order, fit):
    nodes = build_gpu_nodes(sharing="das")
    wanted = paper_jobs(ClusterModel(nodes=nodes), SLICES)
    if order != "as submitted":
        wanted.sort(key=lambda demand: demand.model, reverse=order == "medium first")
    assert sum(place is not None for place in placed(nodes, wanted)) == fit


def test_dra_fills_a_gpu_as_das_does():
    wanted = [
        planned_job(str(i), accelerator=f"dra:{name}")
        for i, name in enumerate(["1g.5gb", "3g.20gb", "3g.20gb", "1g.5gb"])
    ]
    places = placed(build_gpu_nodes(gpus=2, sharing="dra"), wanted)
    assert [str(place) for place in places] == [
        "node-0/gpu-0/0-0", "node-0/gpu-0/4-7", "node-0/gpu-1/0-3", "node-0/gpu-0/1-1",
    ]  # fmt: skip


def test_whole_gpus_are_counted_and_come_back():
    machines = PodScheduler(build_gpu_nodes(gpus=2))
    one, two = planned_job("one"), planned_job("two", gpus=2)
    place = machines.schedule_pod(one)
    assert str(place) == "node-0/gpu-0"
    assert machines.schedule_pod(two) is None
    machines.remove_pod(one, place)
    assert machines.schedule_pod(two).gpu_slices[1].gpu_index == 1


def test_a_node_that_is_sliced_by_das_has_no_whole_gpus_to_give():
    assert placed(build_gpu_nodes(sharing="das"), [planned_job("whole")]) == [None]
    assert placed(build_gpu_nodes(sharing="whole"), [planned_job("slice", accelerator="mig:1g.5gb")]) == [None]


def test_pods_spread_over_nodes_and_das_prefers_free_slots():
    wanted = [planned_job(str(i)) for i in range(3)]
    assert [place.node for place in placed(build_gpu_nodes(2, gpus=2), wanted)] == ["node-0", "node-1", "node-0"]
    slices = [planned_job(name, accelerator=f"mig:{name}") for name in ("7g.40gb", "1g.5gb", "3g.20gb", "1g.5gb")]
    assert [str(place) for place in placed(build_gpu_nodes(2, gpus=1, sharing="das"), slices)] == [
        "node-0/gpu-0/0-7", "node-1/gpu-0/0-0", "node-1/gpu-0/4-7", "node-1/gpu-0/1-1",
    ]  # fmt: skip


def test_slices_that_were_cut_beforehand_are_all_there_is():
    cut = {"nvidia.com/mig-3g.20gb": 1, "nvidia.com/mig-1g.5gb": 3}
    node = GpuNode(name="n", gpu_count=1, gpu_model="A100-40", gpu_sharing="static", allocatable=cut)
    wanted = [
        planned_job(str(i), accelerator=f"mig:{name}") for i, name in enumerate(["3g.20gb", "3g.20gb", *["1g.5gb"] * 4])
    ]
    places = placed([node], wanted)
    assert [str(place) if place else None for place in places] == [
        "n/gpu-0/0-3", None, "n/gpu-0/4-4", "n/gpu-0/5-5", "n/gpu-0/6-6", None,
    ]  # fmt: skip


def test_cpu_memory_and_labels_count_too():
    node = GpuNode(name="n", gpu_count=2, labels={"zone": "a"}, allocatable={"cpu": 3000})
    machines = PodScheduler([node])
    heavy = planned_job("heavy")
    heavy.requests["cpu"] = 2000
    assert machines.schedule_pod(heavy, {"zone": "b"}) is None
    assert machines.schedule_pod(heavy, {"zone": "a"}) is not None
    assert machines.schedule_pod(heavy) is None
