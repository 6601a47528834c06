"""Requests of a run beside the quota of each flavor."""

from __future__ import annotations

from epp_batch.preflight.checks import ClusterInventory
from epp_batch.preflight.fit import compute_quota_fits
from epp_batch.spec import Placement
from tests.unit.epp_batch.conftest import cluster_queue, local_queue, run, unit


def test_quota_fit():
    usage = [{"name": "gpu", "resources": [{"name": "nvidia.com/gpu", "total": "3"}]}]
    queue = cluster_queue(status={"flavorsReservation": usage})
    units = [unit(f"r-{number}") for number in range(20)]
    (fit,) = compute_quota_fits(
        run(*units, placements={"*": Placement(accelerator="gpu:3")}), ClusterInventory([local_queue()], [queue])
    )
    assert (fit.flavor, fit.resource, fit.amount_per_job, fit.jobs, fit.potential_available, fit.used_now) == (
        "gpu",
        "nvidia.com/gpu",
        3,
        20,
        8,
        3,
    )
    assert fit.max_parallel_jobs == 2
