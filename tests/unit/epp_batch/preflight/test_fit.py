"""Requests of a run beside the quota of each flavor."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from epp_batch.preflight.checks import ClusterInventory
from epp_batch.preflight.fit import QuotaFit, compute_quota_fits
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


def test_a_queue_that_cannot_be_read_has_no_rows():
    assert compute_quota_fits(run(), ClusterInventory([local_queue()], None)) == []
    assert compute_quota_fits(run(), ClusterInventory([], [cluster_queue()])) == []


def test_jobs_at_once_are_limited_by_quota_and_by_their_number():
    fit = QuotaFit("large", "lq", "cq", "gpu", "nvidia.com/gpu", Fraction(3, 2), 20, Fraction(8), Fraction(7))
    assert fit.max_parallel_jobs == 5, "what is in use now does not count"
    assert dataclasses.replace(fit, jobs=2).max_parallel_jobs == 2
