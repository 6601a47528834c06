"""Orders: what each is good for, and that the search never does worse than what it starts from."""

from __future__ import annotations

import random

import pytest

from epp_batch.errors import InputError
from epp_batch.planner import (
    PAPER_SPEEDS,
    ControlPlaneDelays,
    SearchObjective,
    SearchOptions,
    arrange_jobs,
    build_gpu_nodes,
    compute_makespan_bound,
    compute_timeline_stats,
    order_units,
    predict_timeline,
    simulate_jobs,
)
from epp_batch.planner.cluster_model import ClusterModel
from epp_batch.planner.planned_job import build_planned_jobs
from epp_batch.planner.policies import initial_orders
from epp_batch.spec import ClusterOptions, Placement, Recording, Task, Unit
from tests.unit.epp_batch.planner.builders import paper_jobs, paper_units, planned_job

SLICES = {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"}
SHORT = SearchOptions(evaluations=200)


def test_longest_first_is_by_time_not_by_audio():
    wanted = [planned_job("a", work=1), planned_job("b", work=3), planned_job("c", work=2)]
    assert [one.unit for one in arrange_jobs("longest", wanted, ClusterModel(nodes=build_gpu_nodes()))] == [
        "b",
        "c",
        "a",
    ]
    assert arrange_jobs("submission", wanted, ClusterModel(nodes=build_gpu_nodes())) == wanted


@pytest.mark.parametrize("accelerators", [{"*": "gpu"}, SLICES])
@pytest.mark.parametrize("aim", [SearchObjective(), SearchObjective(mean_weight=0), SearchObjective(makespan_weight=0)])
def test_the_search_is_no_worse_than_any_order_it_starts_from(accelerators, aim):
    world = ClusterModel(
        nodes=build_gpu_nodes(sharing="whole" if "*" in accelerators else "das"),
        delays=ControlPlaneDelays(submit_interval=1),
    )
    wanted = paper_jobs(world, accelerators)
    random.Random(3).shuffle(wanted)

    def cost(order):
        got = compute_timeline_stats(simulate_jobs(world, order))
        mean = sum(demand.duration_seconds for demand in order) / len(order)
        return (
            aim.makespan_weight * got.makespan / compute_makespan_bound(order, world.nodes)
            + aim.mean_weight * got.mean / mean
        )

    found = arrange_jobs("slots", wanted, world, PAPER_SPEEDS, SearchOptions(objective=aim, evaluations=60))
    assert sorted(one.unit for one in found) == sorted(one.unit for one in wanted)
    assert cost(found) <= min(cost(order) for order in initial_orders(wanted))


def test_one_seed_one_order():
    world = ClusterModel(nodes=build_gpu_nodes(sharing="das"))
    wanted = paper_jobs(world, SLICES)
    assert arrange_jobs("slots", wanted, world, PAPER_SPEEDS, SHORT) == arrange_jobs(
        "slots", wanted, world, PAPER_SPEEDS, SHORT
    )


def test_whole_gpus_for_the_longest_shorten_a_run_that_one_recording_decides():
    world = ClusterModel(nodes=build_gpu_nodes(sharing="das"), delays=ControlPlaneDelays(submit_interval=1))
    wanted = paper_jobs(world, SLICES)
    slots = compute_timeline_stats(simulate_jobs(world, arrange_jobs("slots", wanted, world, PAPER_SPEEDS, SHORT)))
    order = arrange_jobs("mixed", wanted, world, PAPER_SPEEDS, SHORT)
    mixed = compute_timeline_stats(simulate_jobs(world, order))
    assert mixed.makespan < 0.75 * slots.makespan
    assert mixed.mean < slots.mean
    assert {one.accelerator.mig_profile for one in order} == {"1g.5gb", "3g.20gb", "7g.40gb"}
    assert max(order, key=lambda one: one.work_seconds * one.gpu_slots).accelerator.mig_profile == "7g.40gb"


def test_units_in_and_units_out():
    cluster = ClusterOptions(
        namespace="b", queue="q", image="i", placements={m: Placement(accelerator=a) for m, a in SLICES.items()}
    )
    world, units = ClusterModel(nodes=build_gpu_nodes(sharing="das")), paper_units()
    found = order_units(units, cluster, world, speeds=PAPER_SPEEDS, search=SHORT)
    assert sorted(unit.name for unit in found) == sorted(unit.name for unit in units)
    assert compute_timeline_stats(predict_timeline(units, cluster, world, speeds=PAPER_SPEEDS)).peak == 25


def unit(name: str, seconds: float | None, model: str = "large") -> Unit:
    return Unit(name=name, tasks=(Task(recording=Recording(source=name, stems=(name,), seconds=seconds), model=model),))


def test_an_unknown_length_counts_as_the_mean_of_its_model():
    cluster, world = ClusterOptions(namespace="b", queue="q", image="i"), ClusterModel(nodes=build_gpu_nodes())
    units = [unit("a", 100), unit("b", 300), unit("c", None), unit("d", 1000, "medium"), unit("e", None, "small")]
    works = {one.unit: one.work_seconds for one in build_planned_jobs(units, cluster, PAPER_SPEEDS, world)}
    assert works["c"] == pytest.approx((works["a"] + works["b"]) / 2)
    assert works["e"] == pytest.approx(1400 / 3 * PAPER_SPEEDS.real_time_factor("small"))
    with pytest.raises(InputError, match="no recording's length is known"):
        build_planned_jobs([unit("a", None)], cluster, PAPER_SPEEDS, world)


def test_a_slice_that_no_node_has_is_refused():
    cluster = ClusterOptions(
        namespace="b", queue="q", image="i", placements={"*": Placement(accelerator="mig:3g.40gb")}
    )
    with pytest.raises(InputError, match=r"no node has a slice 3g.40gb: there is A100-40"):
        build_planned_jobs([unit("a", 1)], cluster, PAPER_SPEEDS, ClusterModel(nodes=build_gpu_nodes(sharing="das")))
