"""Jobs of units: lengths, MIG profiles, accelerators, quantities."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.planner import PAPER_SPEEDS, build_gpu_nodes
from epp_batch.planner.cluster_model import ClusterModel
from epp_batch.planner.planned_job import build_planned_jobs, parse_accelerator_request, parse_resource_quantity
from epp_batch.spec import ClusterOptions, Placement, Recording, Task, Unit


def build_unit(name: str, seconds: float | None, model: str = "large") -> Unit:
    return Unit(name=name, tasks=(Task(recording=Recording(source=name, stems=(name,), seconds=seconds), model=model),))


def test_an_unknown_length_counts_as_the_mean_of_its_model_or_of_all():
    cluster, cluster_model = ClusterOptions(namespace="b", queue="q", image="i"), ClusterModel(nodes=build_gpu_nodes())
    units = [
        build_unit("a", 100),
        build_unit("b", 300),
        build_unit("c", None),
        build_unit("d", 1000, "medium"),
        build_unit("e", None, "small"),
    ]
    works = {job.unit: job.work_seconds for job in build_planned_jobs(units, cluster, PAPER_SPEEDS, cluster_model)}
    assert works["c"] == pytest.approx((works["a"] + works["b"]) / 2)
    assert works["e"] == pytest.approx(1400 / 3 * PAPER_SPEEDS.real_time_factor("small"))
    with pytest.raises(InputError, match="no recording has a known length"):
        build_planned_jobs([build_unit("a", None)], cluster, PAPER_SPEEDS, cluster_model)


def test_a_mig_profile_that_no_node_has_is_rejected():
    cluster = ClusterOptions(
        namespace="b", queue="q", image="i", placements={"*": Placement(accelerator="mig:3g.40gb")}
    )
    with pytest.raises(InputError, match=r"no node has the MIG profile 3g.40gb; GPUs of the cluster: A100-40"):
        build_planned_jobs(
            [build_unit("a", 1)], cluster, PAPER_SPEEDS, ClusterModel(nodes=build_gpu_nodes(sharing="das"))
        )


@pytest.mark.parametrize(
    ("accelerator", "requests"),
    [
        ("gpu", {"nvidia.com/gpu": 1}), ("gpu:2", {"nvidia.com/gpu": 2}), ("mig:1g.5gb", {"nvidia.com/mig-1g.5gb": 1}),
        ("dra:3g.20gb", {"deviceclass/mig.nvidia.com": 1}), ("dra-gpu", {"deviceclass/gpu.nvidia.com": 1}), ("cpu", {}),
    ],
)  # fmt: skip
def test_accelerators_become_resource_requests(accelerator, requests):
    assert parse_accelerator_request(accelerator).resource_requests() == requests


def test_an_unknown_accelerator_is_rejected():
    with pytest.raises(InputError, match="unknown accelerator 'tpu'; use gpu, gpu:N, mig:PROFILE"):
        parse_accelerator_request("tpu")


@pytest.mark.parametrize(
    ("text", "resource", "amount"),
    [("500m", "cpu", 500), (2, "cpu", 2000), ("1Ti", "memory", 1 << 40), ("1e3", "nvidia.com/gpu", 1000)],
)
def test_quantities_are_whole_numbers(text, resource, amount):
    assert parse_resource_quantity(text, resource) == amount
