"""`epp-batch plan`: predicts makespan and completion times of a run in virtual time, for several submission orders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from epp_batch import intake, planner
from epp_batch.cli.lib import plan_inputs, source_flags
from epp_batch.cli.lib.flag_values import parse_duration, parse_per_model
from epp_batch.cli.lib.lengths import read_lengths
from epp_batch.cli.lib.text_output import print_failure
from epp_batch.errors import InputError
from epp_batch.output_folder import OutputFolder
from epp_batch.planner import PlannedJob, SpeedModel, TimelineStats
from epp_batch.spec import ClusterOptions, Placement, Recording, TranscriptionOptions, Unit
from epp_batch.timeline import Journal, TimelineEvent


class PolicyPlan(NamedTuple):
    """The order of one policy, and what the simulation predicts for it."""

    order: list[PlannedJob]
    events: list[TimelineEvent]
    stats: TimelineStats
    bound: float
    """Seconds that no order can fall below."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="as for submit: audio files, folders, globs, manifests",
    )
    parser.add_argument(
        "--lengths",
        metavar="FILE",
        help="CSV with the columns source, seconds and optionally model, instead of audio",
    )
    parser.add_argument("--run", dest="folder", metavar="OUTPUT", help="plan the run of this output folder instead")
    parser.add_argument("--shard-seconds", type=parse_duration, metavar="TIME", help="as for submit")
    source_flags.add_model_flags(parser, "large")
    plan_inputs.add_cluster_flags(parser.add_argument_group("cluster"))
    plan_inputs.add_speed_flags(parser.add_argument_group("speeds"))
    group = parser.add_argument_group("plan")
    group.add_argument(
        "--policy", choices=(*planner.SUBMISSION_POLICIES, "all"), default="all",
        help="order of submission: as given; longest first; packed onto slices by search; packed, with whole GPUs for "
        "the longest (default: all that apply, compared)",
    )  # fmt: skip
    group.add_argument(
        "--aim", choices=("both", "makespan", "mean"), default="both", help="what the search minimizes (default both)"
    )
    group.add_argument("--show-order", action="store_true", help="list the units in the best order")
    group.add_argument("--events", metavar="FILE", help="write the timeline of the best order, for `report`")
    group.add_argument("--json", action="store_true", help="figures as JSON")


def run(args: argparse.Namespace) -> int:
    """0; 1 if a source cannot be read or a unit could never run."""
    if bool(args.folder) + bool(args.sources) + bool(args.lengths) != 1:
        raise InputError(
            "plan needs SOURCE, --lengths or --run, and only one of them", remedy="see epp-batch plan --help"
        )
    cluster, speeds = plan_inputs.read_cluster_model(args), plan_inputs.read_speeds(args)
    units, options, has_unreadable = _read_units(args, plan_inputs.default_queue(cluster))
    planned_jobs = planner.build_planned_jobs(units, options, speeds, cluster)
    on_slices = any(job.accelerator.mig_profile for job in planned_jobs)
    applicable = planner.SUBMISSION_POLICIES if on_slices else planner.SUBMISSION_POLICIES[:-1]
    policies = applicable if args.policy == "all" else (args.policy,)
    objective = planner.SearchObjective(
        makespan_weight=float(args.aim != "mean"), mean_weight=float(args.aim != "makespan")
    )
    plans: dict[str, PolicyPlan] = {}
    for policy in policies:
        order = planner.arrange_jobs(policy, planned_jobs, cluster, speeds, planner.SearchOptions(objective=objective))
        events = planner.simulate_jobs(cluster, order)
        bound = planner.compute_makespan_bound(order, cluster.nodes)
        plans[policy] = PolicyPlan(order, events, planner.compute_timeline_stats(events), bound)
    weights = objective.makespan_weight, objective.mean_weight
    best = min(plans, key=lambda name: plans[name].stats.weighted_cost(*weights))
    _print_figures(args, speeds, plans)
    chosen = plans[best]
    if best == "mixed" and not args.json:
        _print_whole_gpu_advice(chosen.order, planned_jobs, units)
    if args.show_order:
        _print_order(chosen.order, units)
    if args.events:
        _write_events(Path(args.events), chosen.events)
    return _print_failures(chosen.events) if chosen.stats.failed else int(has_unreadable)


def _read_units(args: argparse.Namespace, default_queue: str) -> tuple[list[Unit], ClusterOptions, bool]:
    """The units, where the Jobs of each model run, and whether a source could not be read."""
    flags = {
        "accelerator": parse_per_model("--accelerator", args.accelerator),
        "queue": parse_per_model("--queue", args.queue),
        "priority_class": parse_per_model("--priority-class", args.priority_class),
    }
    has_unreadable = False
    if args.folder:
        run = OutputFolder(args.folder).load_run()
        units, options = list(run.units), run.cluster
        if options is not None and not any(flags.values()):
            return units, options, False
    else:
        recordings, models, has_unreadable = _read_recordings(args)
        rules = intake.ModelRules(args.model, args.default_model, models)
        units = intake.build_units(
            recordings, rules, TranscriptionOptions(), run="plan", shard_seconds=args.shard_seconds
        )
    models_with_flags = {model for values in flags.values() for model in values}
    placements = {
        model: Placement(
            accelerator=flags["accelerator"].get(model) or flags["accelerator"].get("*") or "gpu",
            queue=flags["queue"].get(model) or flags["queue"].get("*"),
            priority_class=flags["priority_class"].get(model) or flags["priority_class"].get("*"),
        )
        for model in {unit.model for unit in units} | models_with_flags
    }
    options = ClusterOptions(namespace="default", queue=default_queue, image="", placements=placements)
    return units, options, has_unreadable


def _read_recordings(args: argparse.Namespace) -> tuple[list[Recording], dict[str, str], bool]:
    """Recordings of the sources, models by stem, and whether a source could not be read (which is printed)."""
    if args.lengths:
        return *read_lengths(Path(args.lengths)), False
    gathered = intake.gather_recordings(args.sources, OutputFolder("."), save_cache=False)
    for failure in gathered.failures:
        print_failure(failure)
    if not gathered.recordings:
        raise InputError("none of the sources can be read", remedy="see the messages above")
    return gathered.recordings, gathered.models_by_stem, bool(gathered.failures)


def _print_figures(args: argparse.Namespace, speeds: SpeedModel, plans: dict[str, PolicyPlan]) -> None:
    if args.json:
        policies = {name: {"bound": plan.bound, **msgspec.to_builtins(plan.stats)} for name, plan in plans.items()}
        print(msgspec.json.encode({"speeds": speeds.source, "policies": policies}).decode())
        return
    print(f"speeds: {speeds.source}; start-up {speeds.startup_seconds:g} s")
    print("bound: the longest unit, or all work spread over all slots; no order can take less\n")
    head = ("order", "makespan", "bound", "above", "mean", "P50", "P95", "P99", "wait", "peak", "preempted", "failed")
    rows = [head, *(_figure_row(name, plan) for name, plan in plans.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for name, *cells in rows:
        print(name.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True)), sep="  ")


def _figure_row(name: str, plan: PolicyPlan) -> tuple[str, ...]:
    stats = plan.stats
    above = f"{max(0.0, 100 * (stats.makespan / plan.bound - 1)):.1f}%" if plan.bound and not stats.failed else "-"
    times = (_format_time(value) for value in (stats.mean, stats.p50, stats.p95, stats.p99, stats.wait))
    counts = (str(count) for count in (stats.peak, stats.preemptions, stats.failed))
    return (name, _format_time(stats.makespan), _format_time(plan.bound), above, *times, *counts)


def _print_whole_gpu_advice(order: list[PlannedJob], planned_jobs: list[PlannedJob], units: list[Unit]) -> None:
    """The flags of `submit` that put the recordings onto whole GPUs which the mixed policy has widened."""
    before = {job.unit: job for job in planned_jobs}
    lengths = {unit.name: unit.seconds or 0.0 for unit in units}
    widened = [job for job in order if job.gpu_slots > before[job.unit].gpu_slots]
    for model in sorted({job.model for job in widened}):
        of_model = [job for job in widened if job.model == model]
        shortest = min(lengths[job.unit] for job in of_model)
        accelerator = of_model[0].accelerator
        new, kind = f"{model}-whole", "dra" if accelerator.uses_claim else "mig"
        print(
            f"\n{len(of_model)} of {model} on whole GPUs: submit with --model '>={shortest:g}s={new}' --accelerator "
            f"{new}={kind}:{accelerator.mig_profile} and the weights of {model} as --model-path {new}=…"
        )


def _print_order(order: list[PlannedJob], units: list[Unit]) -> None:
    units_by_name = {unit.name: unit for unit in units}
    print()
    for job in order:
        unit, accelerator = units_by_name[job.unit], job.accelerator
        length = _format_time(unit.seconds) if unit.seconds is not None else "?"
        shape = accelerator.mig_profile or (f"{accelerator.gpu_count} GPU" if accelerator.gpu_count else "cpu")
        sources = ", ".join(task.recording.source for task in unit.tasks)
        print(f"{length:>9}  {unit.model:<10}  {shape:<8}  {sources}")


def _write_events(path: Path, events: list[TimelineEvent]) -> None:
    try:
        path.unlink(missing_ok=True)
        journal = Journal(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", remedy="name a writable file") from error
    for event in events:
        journal.append(event)
    journal.close()


def _print_failures(events: list[TimelineEvent]) -> int:
    """One line per reason with the number of units that it keeps from running; the exit code."""
    units_by_reason: dict[str, list[str]] = {}
    for event in events:
        if event.kind == "failed":
            units_by_reason.setdefault(event.detail, []).append(event.unit)
    for reason, units in units_by_reason.items():
        more = f" and {len(units) - 1} more" if len(units) > 1 else ""
        print(f"{units[0]}{more}: {reason}; change the queues or --accelerator", file=sys.stderr)
    return 1


def _format_time(seconds: float) -> str:
    """`8.5s`, `51m22s`, `1h02m03s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m{rest:02}s"
