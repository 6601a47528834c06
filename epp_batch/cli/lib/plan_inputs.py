"""The cluster and the speeds that a plan is made for, from flags and files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epp_batch.cli.lib import source_flags
from epp_batch.errors import InputError

if TYPE_CHECKING:
    from epp_batch.planner import ClusterModel, GpuNode, GpuSharing, SpeedModel


def add_cluster_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--cluster", action="append", default=[], metavar="FILE",
        help="Kubernetes objects in YAML (nodes, Kueue's objects and Configuration), as from `kubectl get -o yaml` or "
        "`epp-batch queues`; repeatable. Without ClusterQueues every Job goes to the scheduler at once",
    )  # fmt: skip
    group.add_argument(
        "--nodes", type=source_flags.parse_positive_int, default=1, metavar="N", help="where FILE has none (default 1)"
    )
    group.add_argument(
        "--gpus", type=source_flags.parse_positive_int, default=8, metavar="N", help="of each node (default 8)"
    )
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
    group.add_argument(
        "--gap", type=_parse_seconds, default=0.0, metavar="SECONDS", help="between two Jobs (default: none)"
    )
    group.add_argument("--restarts", action="store_true", help="preempted workers start anew, as openai/whisper does")


def add_speed_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--speeds", choices=("faster-whisper", "openai-whisper"), default="faster-whisper", help="published figures"
    )
    group.add_argument("--measured", metavar="OUTPUT", help="learn speeds from the finished transcripts of this folder")
    group.add_argument("--rtf", action="append", default=[], metavar="MODEL=FACTOR", help="processing / audio seconds")
    group.add_argument(
        "--startup", type=_parse_seconds, metavar="SECONDS", help="of each pod, before the first audio second"
    )


def default_queue(args: argparse.Namespace) -> str:
    """The LocalQueue that Jobs go to when nobody says: the only one there is, or `default`."""
    kueue = read_world(args).kueue
    return next(iter(kueue.local_queues)) if kueue is not None and len(kueue.local_queues) == 1 else "default"


def read_world(args: argparse.Namespace) -> ClusterModel:
    import msgspec

    from epp_batch.planner import ControlPlaneDelays, objects

    nodes = _build_nodes(args)
    found = []
    for name in args.cluster:
        try:
            found += objects.parse_objects(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: cannot be read: {error}", remedy="give a YAML file") from error
    if args.queues:
        found += _preset_objects(args)
    there = objects.build_cluster_model(found, sharing=args.sharing, nodes=nodes)
    return msgspec.structs.replace(
        there, resume_after_preemption=not args.restarts, delays=ControlPlaneDelays(submit_interval=args.gap)
    )


def _preset_objects(args: argparse.Namespace) -> list[dict[str, Any]]:
    from epp_batch.manifests import queues

    settings = queues.build_preset(args.queues, "default", args.nodes * args.gpus, args.gpu)
    manager = queues.build_manager_configuration(settings)
    return [*queues.build_kueue_objects(settings), *([manager] if manager else [])]


def _build_nodes(args: argparse.Namespace) -> tuple[GpuNode, ...]:
    """Those of the flags. Slices that are asked for make a node that is not said to be whole one that can be cut."""
    from epp_batch.planner import build_gpu_nodes

    guess: GpuSharing
    texts = " ".join(args.accelerator)
    guess = "das" if "mig:" in texts else "dra" if "dra" in texts else "whole"
    return build_gpu_nodes(args.nodes, gpus=args.gpus, gpu=args.gpu, sharing=args.sharing or guess)


def read_speeds(args: argparse.Namespace) -> SpeedModel:
    from epp_batch.output_folder import TranscriptionResult, load_struct
    from epp_batch.planner import speed

    speeds = speed.SPEED_PRESETS[args.speeds]
    if args.measured:
        results = (load_struct(path, TranscriptionResult) for path in sorted(Path(args.measured).rglob("*.done.json")))
        speeds = speed.measure_speeds((result for result in results if result is not None), speeds)
    factors = {}
    for text in args.rtf:
        model, _, factor = text.partition("=")
        try:
            factors[model] = float(factor)
        except ValueError:
            factors[model] = 0.0
        if not model or not 0 < factors[model] < float("inf"):
            raise InputError(f"--rtf {text}", remedy="as --rtf large=0.27")
    return speed.override_speeds(speeds, factors, args.startup)


def _parse_seconds(text: str) -> float:
    """Seconds from 0; for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0")
    return value
