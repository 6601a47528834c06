"""What `submit --dry-run` prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from epp_batch.cli.lib import summary_flags
from epp_batch.errors import InputError
from epp_batch.manifests import jobs
from epp_batch.manifests.quantities import format_quantity
from epp_batch.output_folder import OutputFolder
from epp_batch.preflight.checks import ClusterInventory
from epp_batch.preflight.fit import compute_quota_fits
from epp_batch.spec import ClusterOptions, Run, Unit

if TYPE_CHECKING:
    from epp.errors import Problem
    from epp_batch.cli.lib.preflight import ClusterSnapshot
    from epp_batch.intake import IntakeResult


def print_dry_run(
    args: argparse.Namespace,
    wanted: Run,
    gathered: IntakeResult,
    looked: ClusterSnapshot | None,
    problems: Sequence[Problem],
) -> int:
    """Prints what is still to do; 1 if something keeps it from being done, else 0."""
    if not args.force:
        wanted, done = _without_finished_units(wanted)
        if done:
            print(f"epp-batch submit: {done} recordings are finished already, and left out", file=sys.stderr)
    for failure in gathered.failures:
        summary_flags.print_failure(failure)
    if args.yaml:
        print(render_manifests(wanted), end="")
    else:
        print(render_units(wanted))
        if looked is not None:
            print(render_quota(wanted, looked.seen))
            print(render_prediction(wanted, looked.objects), end="")
    for problem in problems:
        print(f"epp-batch submit: {problem}", file=sys.stderr)
    return 1 if problems or gathered.failures else 0


def render_manifests(run: Run) -> str:
    """Claim templates and Jobs as a YAML stream."""
    return dump_yaml_stream([*jobs.build_claim_templates(run), *(jobs.build_job(unit, run) for unit in run.units)])


def dump_yaml_stream(objects: Iterable[dict[str, Any]]) -> str:
    """Objects as YAML, one document each."""
    return "---\n".join(yaml.dump(one, sort_keys=False, width=1000, Dumper=_PlainDumper) for one in objects)


class _PlainDumper(yaml.SafeDumper):
    """Without anchors: every document reads by itself."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _without_finished_units(run: Run) -> tuple[Run, int]:
    """The run without units whose transcripts are all there; how many recordings have theirs."""
    folder = OutputFolder(run.output)
    missing = {task.stem for task in run.list_tasks() if folder.find_finished_result(task, run.options) is None}
    left = tuple(unit for unit in run.units if any(task.stem in missing for task in unit.tasks))
    return msgspec.structs.replace(run, units=left), len(run.list_tasks()) - len(missing)


def render_units(run: Run) -> str:
    """The Jobs as a table, in order of submission."""
    cluster = _run_cluster(run)
    rows = [("JOB", "MODEL", "QUEUE", "ASKS FOR", "AUDIO", "RECORDINGS")]
    for unit in run.units:
        placement = cluster.placement_for(unit.model)
        asked = " ".join(
            filter(None, (placement.accelerator, placement.cpu and f"cpu:{placement.cpu}", placement.memory))
        )
        rows.append(
            (
                unit.name,
                unit.model,
                placement.queue or cluster.queue,
                asked,
                format_length(unit.seconds),
                _recording_names(unit),
            )
        )
    return render_table(rows)


def render_quota(run: Run, seen: ClusterInventory) -> str:
    """How the run fits each flavor of its queues; says so where that cannot be told."""
    if seen.cluster_queues is None:
        return "quota: ClusterQueues may not be read with these credentials\n"
    rows = [("QUEUE", "CLUSTERQUEUE", "FLAVOR", "RESOURCE", "EACH", "IN USE", "AT MOST", "JOBS", "AT ONCE")]
    for fit in compute_quota_fits(run, seen):
        amounts = (
            format_quantity(fit.amount_per_job),
            format_quantity(fit.used_now),
            format_quantity(fit.potential_available),
            str(fit.jobs),
            str(fit.max_parallel_jobs),
        )
        rows.append((fit.queue, fit.cluster_queue, fit.flavor, fit.resource, *amounts))
    return render_table(rows) if len(rows) > 1 else "quota: nothing that the Jobs ask for is counted\n"


def render_prediction(run: Run, objects: Sequence[dict[str, Any]]) -> str:
    """The planner's word on an empty cluster of this kind; says why where it has none."""
    from epp_batch import planner
    from epp_batch.planner.objects import build_cluster_model

    cluster = _run_cluster(run)
    if not run.units:
        return "nothing is left to do\n"
    try:
        there = build_cluster_model(objects)
        if not there.nodes:
            return "no prediction: nodes may not be read with these credentials\n"
        found = planner.compute_timeline_stats(planner.predict_timeline(run.units, cluster, there))
        bound = planner.compute_makespan_bound(
            planner.build_planned_jobs(run.units, cluster, planner.FASTER_WHISPER_SPEEDS, there), there.nodes
        )
    except InputError as error:
        return f"no prediction: {error}\n"
    if found.failed:
        return f"no prediction: {found.failed} of {found.units} Jobs could never run on the nodes that are there now\n"
    return (
        f"predicted on an empty cluster: all done after {format_length(found.makespan)} (no order comes below "
        f"{format_length(bound)}), a Job on average {format_length(found.mean)} after its submission, 95 of 100 within "
        f"{format_length(found.p95)}; up to {found.peak} at once\nspeeds: {planner.FASTER_WHISPER_SPEEDS.source}\n"
    )


def format_length(seconds: float | None) -> str:
    """`1:02:03`, `2:03`, or `?`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they have to be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _recording_names(unit: Unit) -> str:
    more = f" and {len(unit.tasks) - 1} more" if len(unit.tasks) > 1 else ""
    return unit.tasks[0].stem + more


def _run_cluster(run: Run) -> ClusterOptions:
    assert run.cluster is not None
    return run.cluster
