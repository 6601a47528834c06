"""`epp-batch plan`: what a run would take on a cluster, in virtual time, and the order that suits it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from epp_batch.cli.lib import plan_inputs, source_flags
from epp_batch.errors import InputError

if TYPE_CHECKING:
    from epp_batch.planner import PlannedJob, SpeedModel, TimelineStats
    from epp_batch.spec import ClusterOptions, Recording, Unit
    from epp_batch.timeline import TimelineEvent

HELP = "predict makespan and completion times on a cluster, for several orders of submission"
POLICIES = ("submission", "longest", "slots", "mixed")


class PolicyPlan(NamedTuple):
    """One order and what it leads to."""

    order: list[PlannedJob]
    events: list[TimelineEvent]
    figures: TimelineStats
    bound: float


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
        help="CSV with the columns source, seconds and, if you like, model, instead of audio",
    )
    parser.add_argument("--run", dest="folder", metavar="OUTPUT", help="plan the run of this output folder instead")
    parser.add_argument("--shard-seconds", type=source_flags.parse_duration, metavar="TIME", help="as for submit")
    source_flags.add_model_flags(parser, "large")
    plan_inputs.add_cluster_flags(parser.add_argument_group("cluster"))
    plan_inputs.add_speed_flags(parser.add_argument_group("speeds"))
    group = parser.add_argument_group("plan")
    group.add_argument(
        "--policy", choices=(*POLICIES, "all"), default="all",
        help="order of submission: as given; longest first; packed by search; packed, with whole GPUs for the longest "
        "(default: all that apply, compared)",
    )  # fmt: skip
    group.add_argument(
        "--aim", choices=("both", "makespan", "mean"), default="both", help="what the search makes small (default both)"
    )
    group.add_argument("--show-order", action="store_true", help="list the units in the best order")
    group.add_argument("--events", metavar="FILE", help="write the timeline of the best order, for `report`")
    group.add_argument("--json", action="store_true", help="figures as JSON")


def run(args: argparse.Namespace) -> int:
    from epp_batch import planner

    units, cluster, unread = _read_units(args)
    world, speeds = plan_inputs.read_world(args), plan_inputs.read_speeds(args)
    demands = planner.build_planned_jobs(units, cluster, speeds, world)
    sliced = any(demand.accelerator.mig_profile for demand in demands)
    every = planner.SUBMISSION_POLICIES if sliced else planner.SUBMISSION_POLICIES[:-1]
    policies = every if args.policy == "all" else (args.policy,)
    aim = planner.SearchObjective(makespan_weight=float(args.aim != "mean"), mean_weight=float(args.aim != "makespan"))
    found: dict[str, PolicyPlan] = {}
    for policy in policies:
        order = planner.arrange_jobs(policy, demands, world, speeds, planner.SearchOptions(objective=aim))
        events = planner.simulate_jobs(world, order)
        found[policy] = PolicyPlan(
            order, events, planner.compute_timeline_stats(events), planner.compute_makespan_bound(order, world.nodes)
        )
    best = min(found, key=lambda name: found[name].figures.weighted_cost(aim.makespan_weight, aim.mean_weight))
    _print_figures(args, speeds, found)
    chosen = found[best]
    if best == "mixed" and not args.json:
        _print_whole_gpu_advice(chosen.order, demands, units)
    if args.show_order:
        _print_order(chosen.order, units)
    if args.events:
        _write_events(Path(args.events), chosen.events)
    return _print_failures(chosen.events) if chosen.figures.failed else int(unread)


def _read_units(args: argparse.Namespace) -> tuple[list[Unit], ClusterOptions, bool]:
    """The units, where each model runs, and whether something of what was named could not be read."""
    from epp_batch import intake
    from epp_batch.output_folder import OutputFolder
    from epp_batch.spec import ClusterOptions, Placement, TranscriptionOptions

    if bool(args.folder) + bool(args.sources) + bool(args.lengths) != 1:
        raise InputError("what is to be planned?", remedy="give SOURCE, or --lengths, or --run, and only one of them")
    flags = {
        "accelerator": source_flags.parse_per_model("--accelerator", args.accelerator),
        "queue": source_flags.parse_per_model("--queue", args.queue),
        "priority_class": source_flags.parse_per_model("--priority-class", args.priority_class),
    }
    unread = False
    if args.folder:
        run = OutputFolder(args.folder).load_run()
        units, cluster = list(run.units), run.cluster
        if cluster is not None and not any(flags.values()):
            return units, cluster, False
    else:
        recordings, models, unread = _read_recordings(args)
        rules = intake.ModelRules(args.model, args.default_model, models)
        units = intake.build_units(
            recordings, rules, TranscriptionOptions(), run="plan", shard_seconds=args.shard_seconds
        )
    named = {unit.model for unit in units} | {model for values in flags.values() for model in values}
    placements = {
        model: Placement(**{name: values.get(model) or values.get("*") or ("gpu" if name == "accelerator" else None)
                            for name, values in flags.items()})  # type: ignore[arg-type]
        for model in named
    }  # fmt: skip
    return (
        units,
        ClusterOptions(namespace="default", queue=plan_inputs.default_queue(args), image="", placements=placements),
        unread,
    )


def _read_recordings(args: argparse.Namespace) -> tuple[list[Recording], dict[str, str], bool]:
    """What the command line names, and its models by stem. What cannot be read is told of and left out."""
    from epp_batch import intake
    from epp_batch.cli.lib import lengths
    from epp_batch.output_folder import OutputFolder

    if args.lengths:
        return *lengths.read_lengths(Path(args.lengths)), False
    gathered = intake.gather_recordings(args.sources, OutputFolder("."), save_cache=False)
    for failure in gathered.failures:
        print(f"{failure.source}: {failure.stage}: {failure.message}; {failure.remedy}", file=sys.stderr)
    if not gathered.recordings:
        raise InputError("none of the sources can be read", remedy="see above")
    return gathered.recordings, gathered.models_by_stem, bool(gathered.failures)


def _print_figures(args: argparse.Namespace, speeds: SpeedModel, found: dict[str, PolicyPlan]) -> None:
    import msgspec

    if args.json:
        policies = {name: {"bound": plan.bound, **msgspec.to_builtins(plan.figures)} for name, plan in found.items()}
        print(msgspec.json.encode({"speeds": speeds.source, "policies": policies}).decode())
        return
    print(f"speeds: {speeds.source}; start-up {speeds.startup_seconds:g} s")
    print("bound: the longest unit, or all work spread over all slots; no order can take less\n")
    head = ("order", "makespan", "bound", "above", "mean", "P50", "P95", "P99", "wait", "peak", "preempted", "failed")
    rows = [head, *(_figure_row(name, plan) for name, plan in found.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for name, *cells in rows:
        print(name.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True)), sep="  ")


def _figure_row(name: str, plan: PolicyPlan) -> tuple[str, ...]:
    """One line of the table."""
    got = plan.figures
    above = f"{max(0.0, 100 * (got.makespan / plan.bound - 1)):.1f}%" if plan.bound and not got.failed else "-"
    times = (_format_time(value) for value in (got.mean, got.p50, got.p95, got.p99, got.wait))
    counts = (str(count) for count in (got.peak, got.preemptions, got.failed))
    return (name, _format_time(got.makespan), _format_time(plan.bound), above, *times, *counts)


def _print_whole_gpu_advice(order: list[PlannedJob], demands: list[PlannedJob], units: list[Unit]) -> None:
    """Which recordings are better off on a whole GPU, in the words of `submit`."""
    before = {demand.unit: demand for demand in demands}
    lengths = {unit.name: unit.seconds or 0.0 for unit in units}
    wide = [demand for demand in order if demand.gpu_slots > before[demand.unit].gpu_slots]
    for model in sorted({demand.model for demand in wide}):
        mine = [demand for demand in wide if demand.model == model]
        shortest = min(lengths[demand.unit] for demand in mine)
        new, kind = f"{model}-whole", "dra" if mine[0].accelerator.uses_claim else "mig"
        print(
            f"\n{len(mine)} of {model} on whole GPUs: submit with --model '>={shortest:g}s={new}' --accelerator "
            f"{new}={kind}:{mine[0].accelerator.mig_profile} and the weights of {model} as --model-path {new}=…"
        )


def _print_order(order: list[PlannedJob], units: list[Unit]) -> None:
    by_name = {unit.name: unit for unit in units}
    print()
    for demand in order:
        unit = by_name[demand.unit]
        length = _format_time(unit.seconds) if unit.seconds is not None else "?"
        shape = demand.accelerator.mig_profile or (
            f"{demand.accelerator.gpu_count} GPU" if demand.accelerator.gpu_count else "cpu"
        )
        sources = ", ".join(task.recording.source for task in unit.tasks)
        print(f"{length:>9}  {unit.model:<10}  {shape:<8}  {sources}")


def _write_events(path: Path, events: list[TimelineEvent]) -> None:
    from epp_batch.timeline import Journal

    try:
        path.unlink(missing_ok=True)
        journal = Journal(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", remedy="name a file that can be written") from error
    for event in events:
        journal.append(event)
    journal.close()


def _print_failures(events: list[TimelineEvent]) -> int:
    """One line for each reason, with how many units it keeps from running."""
    reasons: dict[str, list[str]] = {}
    for event in events:
        if event.kind == "failed":
            reasons.setdefault(event.detail, []).append(event.unit)
    for reason, units in reasons.items():
        more = f" and {len(units) - 1} more" if len(units) > 1 else ""
        print(f"{units[0]}{more}: {reason}; change the queues or --accelerator", file=sys.stderr)
    return 1


def _format_time(seconds: float) -> str:
    """`51m22s`, `1h02m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m{rest:02}s"
