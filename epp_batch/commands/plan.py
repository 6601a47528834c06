"""`epp-batch plan`: what a run would take on a cluster, in virtual time, and the order that suits it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from epp_batch.commands import _options
from epp_batch.errors import InputError

if TYPE_CHECKING:
    from epp_batch.planner import Node, Outcome, Sharing, Speeds, World
    from epp_batch.timeline import Event
    from epp_batch.work import Cluster, Recording, Unit

HELP = "predict makespan and completion times on a cluster, for several orders of submission"
POLICIES = ("submission", "longest", "slots")


def arguments(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--shard-seconds", type=_options.duration, metavar="TIME", help="as for submit")
    _options.add_models(parser, "large")
    _cluster_flags(parser.add_argument_group("cluster"))
    _speed_flags(parser.add_argument_group("speeds"))
    group = parser.add_argument_group("plan")
    group.add_argument(
        "--policy", choices=(*POLICIES, "all"), default="all",
        help="order of submission: as given; longest first; packed by search (default: all of them, compared)",
    )  # fmt: skip
    group.add_argument(
        "--aim", choices=("both", "makespan", "mean"), default="both", help="what the search makes small (default both)"
    )
    group.add_argument("--show-order", action="store_true", help="list the units in the best order")
    group.add_argument("--events", metavar="FILE", help="write the timeline of the best order, for `report`")
    group.add_argument("--json", action="store_true", help="figures as JSON")


def _cluster_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--cluster", action="append", default=[], metavar="FILE",
        help="Kubernetes objects in YAML (nodes, Kueue's objects and Configuration), as from `kubectl get -o yaml` or "
        "`epp-batch queues`; repeatable. Without ClusterQueues every Job goes to the scheduler at once",
    )  # fmt: skip
    group.add_argument(
        "--nodes", type=_options.positive, default=1, metavar="N", help="where FILE has none (default 1)"
    )
    group.add_argument("--gpus", type=_options.positive, default=8, metavar="N", help="of each node (default 8)")
    group.add_argument("--gpu", default="A100-40", metavar="MODEL", help="A100-40, A100-80, H100-80, H200-141 …")
    group.add_argument(
        "--sharing", choices=("whole", "das", "dra", "static"), help="how GPUs are given away (default: as nodes show)"
    )
    each = "[MODEL=]"
    group.add_argument(
        "--accelerator", action="append", default=[], metavar=f"{each}KIND",
        help="gpu, gpu:N, mig:PROFILE, dra:PROFILE, dra-gpu or cpu; by model, or for all (default gpu)",
    )  # fmt: skip
    group.add_argument("--queue", action="append", default=[], metavar=f"{each}NAME", help="LocalQueue")
    group.add_argument("--priority-class", action="append", default=[], metavar=f"{each}NAME", help="for Kueue")
    group.add_argument("--restarts", action="store_true", help="preempted workers start anew, as openai/whisper does")


def _speed_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--speeds", choices=("faster-whisper", "openai-whisper"), default="faster-whisper", help="published figures"
    )
    group.add_argument("--measured", metavar="OUTPUT", help="learn speeds from the finished transcripts of this folder")
    group.add_argument("--rtf", action="append", default=[], metavar="MODEL=FACTOR", help="processing / audio seconds")
    group.add_argument("--startup", type=float, metavar="SECONDS", help="of each pod, before the first audio second")


def run(args: argparse.Namespace) -> int:
    from epp_batch import planner

    units, cluster = _work(args)
    world, speeds = _world(args), _speeds(args)
    demands = planner.demands(units, cluster, speeds, world)
    policies = planner.POLICIES if args.policy == "all" else (args.policy,)
    aim = planner.Aim(makespan=float(args.aim != "mean"), mean=float(args.aim != "makespan"))
    found: dict[str, tuple[list[Event], Outcome, list[str]]] = {}
    for policy in policies:
        order = planner.arrange(policy, demands, world, planner.Search(aim=aim))
        events = planner.run(world, order)
        found[policy] = (events, planner.outcome(events), [demand.unit for demand in order])
    best = min(found, key=lambda name: found[name][1].cost(aim.makespan, aim.mean))
    _print(
        args, speeds, {name: figures for name, (_, figures, _) in found.items()}, planner.bound(demands, world.nodes)
    )
    events, figures, order_names = found[best]
    if args.show_order:
        _print_order(order_names, units)
    if args.events:
        _write(Path(args.events), events)
    return _complain(events) if figures.failed else 0


def _work(args: argparse.Namespace) -> tuple[list[Unit], Cluster]:
    """The units, and where each model runs."""
    from epp_batch import intake
    from epp_batch.folder import Folder
    from epp_batch.work import Cluster, Options, Placement

    if bool(args.folder) + bool(args.sources) + bool(args.lengths) != 1:
        raise InputError("what is to be planned?", remedy="give SOURCE, or --lengths, or --run, and only one of them")
    flags = {
        "accelerator": _options.per_model("--accelerator", args.accelerator),
        "queue": _options.per_model("--queue", args.queue),
        "priority_class": _options.per_model("--priority-class", args.priority_class),
    }
    if args.folder:
        run = Folder(args.folder).run()
        units, cluster = list(run.units), run.cluster
        if cluster is not None and not any(flags.values()):
            return units, cluster
    else:
        recordings, models = _recordings(args)
        rules = intake.Rules(args.model, args.default_model, models)
        units = intake.units(recordings, rules, Options(), run="plan", shard_seconds=args.shard_seconds)
    named = {unit.model for unit in units} | {model for values in flags.values() for model in values}
    placements = {
        model: Placement(**{name: values.get(model) or values.get("*") or ("gpu" if name == "accelerator" else None)
                            for name, values in flags.items()})  # type: ignore[arg-type]
        for model in named
    }  # fmt: skip
    return units, Cluster(namespace="default", queue=_first_queue(args), image="", placements=placements)


def _recordings(args: argparse.Namespace) -> tuple[list[Recording], dict[str, str]]:
    """What the command line names, and its models by stem. What cannot be read is told of and left out."""
    from epp_batch import intake
    from epp_batch.commands import _lengths
    from epp_batch.folder import Folder

    if args.lengths:
        return _lengths.read(Path(args.lengths))
    gathered = intake.gather(args.sources, Folder("."), remember=False)
    for failure in gathered.failures:
        print(f"{failure.source}: {failure.stage}: {failure.message}; {failure.remedy}", file=sys.stderr)
    if not gathered.recordings:
        raise InputError("none of the sources can be read", remedy="see above")
    return gathered.recordings, gathered.models


def _first_queue(args: argparse.Namespace) -> str:
    """The LocalQueue that Jobs go to when nobody says: the only one there is, or `default`."""
    kueue = _world(args).kueue
    return next(iter(kueue.local)) if kueue is not None and len(kueue.local) == 1 else "default"


def _world(args: argparse.Namespace) -> World:
    import msgspec

    from epp_batch.planner import objects

    nodes = _nodes(args)
    found = []
    for name in args.cluster:
        try:
            found += objects.read(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: cannot be read: {error}", remedy="give a YAML file") from error
    world = objects.world(found, sharing=args.sharing, nodes=nodes)
    return msgspec.structs.replace(world, resumes=not args.restarts)


def _nodes(args: argparse.Namespace) -> tuple[Node, ...]:
    """Those of the flags. Slices that are asked for make a node that is not said to be whole one that can be cut."""
    from epp_batch.planner import machine

    guess: Sharing
    texts = " ".join(args.accelerator)
    guess = "das" if "mig:" in texts else "dra" if "dra" in texts else "whole"
    return machine(args.nodes, gpus=args.gpus, gpu=args.gpu, sharing=args.sharing or guess)


def _speeds(args: argparse.Namespace) -> Speeds:
    from epp_batch.folder import Result, load
    from epp_batch.planner import speed

    speeds = speed.PRESETS[args.speeds]
    if args.measured:
        results = (load(path, Result) for path in sorted(Path(args.measured).rglob("*.done.json")))
        speeds = speed.measured((result for result in results if result is not None), speeds)
    factors = {}
    for text in args.rtf:
        model, _, factor = text.partition("=")
        try:
            factors[model] = float(factor)
        except ValueError as error:
            raise InputError(f"--rtf {text}", remedy="as --rtf large=0.27") from error
    return speed.with_factors(speeds, factors, args.startup)


def _print(args: argparse.Namespace, speeds: Speeds, found: dict[str, Outcome], least: float) -> None:
    import msgspec

    if args.json:
        figures = {"speeds": speeds.source, "bound": least, "policies": found}
        print(msgspec.json.encode(figures).decode())
        return
    print(f"speeds: {speeds.source}; start-up {speeds.startup:g} s")
    print(f"no order can take less than {_time(least)} (longest unit, or all work over all slots)\n")
    head = ("order", "makespan", "above", "mean", "P50", "P95", "P99", "wait", "at once", "preempted", "failed")
    rows = [
        (
            name, _time(o.makespan), f"{100 * (o.makespan / least - 1):.1f}%" if least else "-",
            *(_time(value) for value in (o.mean, o.p50, o.p95, o.p99, o.wait)),
            str(o.peak), str(o.preemptions), str(o.failed),
        )
        for name, o in found.items()
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )


def _print_order(order: list[str], units: list[Unit]) -> None:
    by_name = {unit.name: unit for unit in units}
    print()
    for name in order:
        unit = by_name[name]
        length = _time(unit.seconds) if unit.seconds is not None else "?"
        print(f"{length:>9}  {unit.model:<10}  {', '.join(task.recording.source for task in unit.tasks)}")


def _write(path: Path, events: list[Event]) -> None:
    from epp_batch.timeline import Journal

    path.unlink(missing_ok=True)
    journal = Journal(path)
    for event in events:
        journal.write(event)
    journal.close()


def _complain(events: list[Event]) -> int:
    """One line for each reason, with how many units it keeps from running."""
    reasons: dict[str, list[str]] = {}
    for event in events:
        if event.kind == "failed":
            reasons.setdefault(event.detail, []).append(event.unit)
    for reason, units in reasons.items():
        more = f" and {len(units) - 1} more" if len(units) > 1 else ""
        print(f"{units[0]}{more}: {reason}; change the queues or --accelerator", file=sys.stderr)
    return 1


def _time(seconds: float) -> str:
    """`51m22s`, `1h02m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m{rest:02}s"
