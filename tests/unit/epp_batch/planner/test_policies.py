"""Policies of submission: their orders, and that the search is no worse than its initial orders."""

from __future__ import annotations

import random

import pytest

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
from epp_batch.planner.policies import initial_orders
from epp_batch.spec import ClusterOptions, Placement
from tests.unit.epp_batch.planner.builders import paper_jobs, paper_units, planned_job

SLICES = {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"}
SHORT = SearchOptions(evaluations=200)


def test_longest_orders_by_duration():
    jobs = [planned_job("a", work=1), planned_job("b", work=3), planned_job("c", work=2)]
    assert [job.unit for job in arrange_jobs("longest", jobs, ClusterModel(nodes=build_gpu_nodes()))] == [
        "b",
        "c",
        "a",
    ]
    assert arrange_jobs("submission", jobs, ClusterModel(nodes=build_gpu_nodes())) == jobs


@pytest.mark.parametrize("accelerators", [{"*": "gpu"}, SLICES])
@pytest.mark.parametrize("aim", [SearchObjective(), SearchObjective(mean_weight=0), SearchObjective(makespan_weight=0)])
def test_the_search_is_no_worse_than_its_initial_orders(accelerators, aim):
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(sharing="whole" if "*" in accelerators else "das"),
        delays=ControlPlaneDelays(submit_interval=1),
    )
    jobs = paper_jobs(cluster_model, accelerators)
    random.Random(3).shuffle(jobs)

    def cost(order):
        stats = compute_timeline_stats(simulate_jobs(cluster_model, order))
        mean = sum(job.duration_seconds for job in order) / len(order)
        return (
            aim.makespan_weight * stats.makespan / compute_makespan_bound(order, cluster_model.nodes)
            + aim.mean_weight * stats.mean / mean
        )

    found = arrange_jobs("slots", jobs, cluster_model, PAPER_SPEEDS, SearchOptions(objective=aim, evaluations=60))
    assert sorted(job.unit for job in found) == sorted(job.unit for job in jobs)
    assert cost(found) <= min(cost(order) for order in initial_orders(jobs))


def test_the_search_is_deterministic_for_a_seed():
    cluster_model = ClusterModel(nodes=build_gpu_nodes(sharing="das"))
    jobs = paper_jobs(cluster_model, SLICES)
    assert arrange_jobs("slots", jobs, cluster_model, PAPER_SPEEDS, SHORT) == arrange_jobs(
        "slots", jobs, cluster_model, PAPER_SPEEDS, SHORT
    )


def test_mixed_gives_the_longest_jobs_whole_gpus_and_shortens_the_makespan():
    cluster_model = ClusterModel(nodes=build_gpu_nodes(sharing="das"), delays=ControlPlaneDelays(submit_interval=1))
    jobs = paper_jobs(cluster_model, SLICES)
    slots = compute_timeline_stats(
        simulate_jobs(cluster_model, arrange_jobs("slots", jobs, cluster_model, PAPER_SPEEDS, SHORT))
    )
    order = arrange_jobs("mixed", jobs, cluster_model, PAPER_SPEEDS, SHORT)
    mixed = compute_timeline_stats(simulate_jobs(cluster_model, order))
    assert mixed.makespan < 0.75 * slots.makespan
    assert mixed.mean < slots.mean
    assert {job.accelerator.mig_profile for job in order} == {"1g.5gb", "3g.20gb", "7g.40gb"}
    assert max(order, key=lambda job: job.work_seconds * job.gpu_slots).accelerator.mig_profile == "7g.40gb"


def test_order_units_returns_the_units_in_another_order():
    cluster = ClusterOptions(
        namespace="b", queue="q", image="i", placements={m: Placement(accelerator=a) for m, a in SLICES.items()}
    )
    cluster_model, units = ClusterModel(nodes=build_gpu_nodes(sharing="das")), paper_units()
    found = order_units(units, cluster, cluster_model, speeds=PAPER_SPEEDS, search=SHORT)
    assert sorted(unit.name for unit in found) == sorted(unit.name for unit in units)
    assert compute_timeline_stats(predict_timeline(units, cluster, cluster_model, speeds=PAPER_SPEEDS)).peak == 25
