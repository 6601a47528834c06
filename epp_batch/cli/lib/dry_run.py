"""Output of `submit --dry-run`: Jobs, quota and predicted makespan, or the manifests for kubectl."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from epp.errors import Problem
from epp_batch import planner
from epp_batch.cli.lib.preflight import ClusterSnapshot
from epp_batch.cli.lib.text_output import dump_yaml_stream, print_failure, render_table
from epp_batch.errors import InputError
from epp_batch.intake import IntakeResult
from epp_batch.manifests import jobs
from epp_batch.manifests.quantities import format_quantity
from epp_batch.output_folder import OutputFolder
from epp_batch.planner.objects import build_cluster_model
from epp_batch.preflight.checks import ClusterInventory
from epp_batch.preflight.fit import compute_quota_fits
from epp_batch.spec import ClusterOptions, Run, Unit


def print_dry_run(
    args: argparse.Namespace,
    run: Run,
    intake: IntakeResult,
    cluster: ClusterSnapshot | None,
    problems: Sequence[Problem],
) -> int:
    """Prints what a submission would do; returns 1 if a source or the cluster has a problem, else 0."""
    if not args.force:
        run, finished = _without_finished_units(run)
        if finished:
            print(f"epp-batch submit: {finished} recordings are finished already, and left out", file=sys.stderr)
    for failure in intake.failures:
        print_failure(failure)
    if args.yaml:
        print(render_manifests(run), end="")
    else:
        print(render_units(run))
        if cluster is not None:
            print(render_quota(run, cluster.inventory))
            print(render_prediction(run, cluster.objects), end="")
    for problem in problems:
        print(f"epp-batch submit: {problem}", file=sys.stderr)
    return 1 if problems or intake.failures else 0


def render_manifests(run: Run) -> str:
    """Claim templates and Jobs as a YAML stream."""
    return dump_yaml_stream([*jobs.build_claim_templates(run), *(jobs.build_job(unit, run) for unit in run.units)])


def render_units(run: Run) -> str:
    """The Jobs as a table, in order of submission."""
    cluster = _run_cluster(run)
    rows = [("JOB", "MODEL", "QUEUE", "REQUESTS", "AUDIO", "RECORDINGS")]
    for unit in run.units:
        placement = cluster.placement_for(unit.model)
        requests = (placement.accelerator, placement.cpu and f"cpu:{placement.cpu}", placement.memory)
        queue, requested = placement.queue or cluster.queue, " ".join(filter(None, requests))
        rows.append((unit.name, unit.model, queue, requested, format_length(unit.seconds), _recording_names(unit)))
    return render_table(rows)


def render_quota(run: Run, inventory: ClusterInventory) -> str:
    """How the run fits the quota of each flavor of its queues, as a table; or why that is unknown."""
    if inventory.cluster_queues is None:
        return "quota: ClusterQueues may not be read with these credentials\n"
    rows = [("QUEUE", "CLUSTERQUEUE", "FLAVOR", "RESOURCE", "EACH", "IN USE", "AT MOST", "JOBS", "AT ONCE")]
    for fit in compute_quota_fits(run, inventory):
        amounts = (
            format_quantity(fit.amount_per_job),
            format_quantity(fit.used_now),
            format_quantity(fit.potential_available),
            str(fit.jobs),
            str(fit.max_parallel_jobs),
        )
        rows.append((fit.queue, fit.cluster_queue, fit.flavor, fit.resource, *amounts))
    return render_table(rows) if len(rows) > 1 else "quota: the queues have quota for nothing that the Jobs request\n"


def render_prediction(run: Run, objects: Sequence[dict[str, Any]]) -> str:
    """The planner's prediction for this cluster without other workloads; or why there is none."""
    cluster = _run_cluster(run)
    if not run.units:
        return "nothing is left to do\n"
    try:
        model = build_cluster_model(objects)
        if not model.nodes:
            return "no prediction: nodes may not be read with these credentials\n"
        stats = planner.compute_timeline_stats(planner.predict_timeline(run.units, cluster, model))
        planned_jobs = planner.build_planned_jobs(run.units, cluster, planner.FASTER_WHISPER_SPEEDS, model)
        bound = planner.compute_makespan_bound(planned_jobs, model.nodes)
    except InputError as error:
        return f"no prediction: {error}\n"
    if stats.failed:
        return f"no prediction: {stats.failed} of {stats.units} Jobs could never run on the nodes of this cluster\n"
    return (
        f"predicted on an empty cluster: all done after {format_length(stats.makespan)} (no order takes less than "
        f"{format_length(bound)}), a Job on average {format_length(stats.mean)} after its submission, 95 % within "
        f"{format_length(stats.p95)}; up to {stats.peak} at once\nspeeds: {planner.FASTER_WHISPER_SPEEDS.source}\n"
    )


def format_length(seconds: float | None) -> str:
    """`1:02:03`, `2:03`, or `?`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _without_finished_units(run: Run) -> tuple[Run, int]:
    """The run without units whose transcripts are all finished; how many recordings are finished."""
    folder = OutputFolder(run.output)
    missing = {task.stem for task in run.list_tasks() if folder.find_finished_result(task, run.options) is None}
    unfinished = tuple(unit for unit in run.units if any(task.stem in missing for task in unit.tasks))
    return msgspec.structs.replace(run, units=unfinished), len(run.list_tasks()) - len(missing)


def _recording_names(unit: Unit) -> str:
    more = f" and {len(unit.tasks) - 1} more" if len(unit.tasks) > 1 else ""
    return unit.tasks[0].stem + more


def _run_cluster(run: Run) -> ClusterOptions:
    assert run.cluster is not None
    return run.cluster
