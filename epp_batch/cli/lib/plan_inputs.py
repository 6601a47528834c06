"""The cluster and the speeds that a plan is made for, from flags and files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epp_batch.cli.lib import source_flags
from epp_batch.errors import InputError

if TYPE_CHECKING:
    from epp_batch.planner import Node, Sharing, Speeds, World


def cluster_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--cluster", action="append", default=[], metavar="FILE",
        help="Kubernetes objects in YAML (nodes, Kueue's objects and Configuration), as from `kubectl get -o yaml` or "
        "`epp-batch queues`; repeatable. Without ClusterQueues every Job goes to the scheduler at once",
    )  # fmt: skip
    group.add_argument(
        "--nodes", type=source_flags.positive, default=1, metavar="N", help="where FILE has none (default 1)"
    )
    group.add_argument("--gpus", type=source_flags.positive, default=8, metavar="N", help="of each node (default 8)")
    group.add_argument("--gpu", default="A100-40", metavar="MODEL", help="A100-40, A100-80, H100-80, H200-141 …")
    group.add_argument(
        "--sharing", choices=("whole", "das", "dra", "static"), help="how GPUs are given away (default: as nodes show)"
    )
    group.add_argument("--queues", metavar="PRESET", help="queues as `epp-batch queues --preset PRESET` prints")
    each = "[MODEL=]"
    group.add_argument(
        "--accelerator", action="append", default=[], metavar=f"{each}KIND",
        help="gpu, gpu:N, mig:PROFILE, dra:PROFILE, dra-gpu or cpu; by model, or for all (default gpu)",
    )  # fmt: skip
    group.add_argument("--queue", action="append", default=[], metavar=f"{each}NAME", help="LocalQueue")
    group.add_argument("--priority-class", action="append", default=[], metavar=f"{each}NAME", help="for Kueue")
    group.add_argument("--gap", type=_seconds, default=0.0, metavar="SECONDS", help="between two Jobs (default: none)")
    group.add_argument("--restarts", action="store_true", help="preempted workers start anew, as openai/whisper does")


def speed_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--speeds", choices=("faster-whisper", "openai-whisper"), default="faster-whisper", help="published figures"
    )
    group.add_argument("--measured", metavar="OUTPUT", help="learn speeds from the finished transcripts of this folder")
    group.add_argument("--rtf", action="append", default=[], metavar="MODEL=FACTOR", help="processing / audio seconds")
    group.add_argument("--startup", type=_seconds, metavar="SECONDS", help="of each pod, before the first audio second")


def first_queue(args: argparse.Namespace) -> str:
    """The LocalQueue that Jobs go to when nobody says: the only one there is, or `default`."""
    kueue = world(args).kueue
    return next(iter(kueue.local)) if kueue is not None and len(kueue.local) == 1 else "default"


def world(args: argparse.Namespace) -> World:
    import msgspec

    from epp_batch.planner import Delays, objects

    nodes = _nodes(args)
    found = []
    for name in args.cluster:
        try:
            found += objects.read(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: cannot be read: {error}", remedy="give a YAML file") from error
    if args.queues:
        found += _preset(args)
    there = objects.world(found, sharing=args.sharing, nodes=nodes)
    return msgspec.structs.replace(there, resumes=not args.restarts, delays=Delays(submit=args.gap))


def _preset(args: argparse.Namespace) -> list[dict[str, Any]]:
    from epp_batch.manifests import queues

    settings = queues.preset(args.queues, "default", args.nodes * args.gpus, args.gpu)
    manager = queues.configuration(settings)
    return [*queues.objects(settings), *([manager] if manager else [])]


def _nodes(args: argparse.Namespace) -> tuple[Node, ...]:
    """Those of the flags. Slices that are asked for make a node that is not said to be whole one that can be cut."""
    from epp_batch.planner import machine

    guess: Sharing
    texts = " ".join(args.accelerator)
    guess = "das" if "mig:" in texts else "dra" if "dra" in texts else "whole"
    return machine(args.nodes, gpus=args.gpus, gpu=args.gpu, sharing=args.sharing or guess)


def speeds(args: argparse.Namespace) -> Speeds:
    from epp_batch.output_folder import Result, load
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
        except ValueError:
            factors[model] = 0.0
        if not model or not 0 < factors[model] < float("inf"):
            raise InputError(f"--rtf {text}", remedy="as --rtf large=0.27")
    return speed.with_factors(speeds, factors, args.startup)


def _seconds(text: str) -> float:
    """Seconds from 0; for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0")
    return value
