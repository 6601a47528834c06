"""Flags of `plan` for the cluster and the speeds, and the planner's model of both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from epp_batch.cli.lib.flag_values import parse_positive_int, parse_seconds
from epp_batch.errors import InputError
from epp_batch.manifests import queues
from epp_batch.output_folder import TranscriptionResult, load_struct
from epp_batch.planner import (
    ClusterModel,
    ControlPlaneDelays,
    GpuNode,
    GpuSharing,
    SpeedModel,
    build_gpu_nodes,
    objects,
    speed,
)


def add_cluster_flags(group: argparse._ArgumentGroup) -> None:
    """Nodes, GPUs, Kueue's objects, and what Jobs request of them."""
    group.add_argument(
        "--cluster", action="append", default=[], metavar="FILE",
        help="Kubernetes objects in YAML (nodes, Kueue's objects and Configuration), e.g. from `kubectl get -o yaml` "
        "or `epp-batch queues`; repeatable. Without ClusterQueues every Job is scheduled at once",
    )  # fmt: skip
    group.add_argument(
        "--nodes", type=parse_positive_int, default=1, metavar="N", help="number of nodes if FILE has none (default 1)"
    )
    group.add_argument("--gpus", type=parse_positive_int, default=8, metavar="N", help="GPUs per node (default 8)")
    group.add_argument("--gpu", default="A100-40", metavar="MODEL", help="A100-40, A100-80, H100-80, H200-141 …")
    group.add_argument(
        "--sharing",
        choices=("whole", "das", "dra", "static"),
        help="how GPUs are shared: whole GPUs, the Dynamic Accelerator Slicer, DRA, or static MIG slices "
        "(default: from the nodes)",
    )
    group.add_argument("--queues", metavar="PRESET", help="queues as `epp-batch queues --preset PRESET` prints")
    each = "[MODEL=]"
    group.add_argument(
        "--accelerator", action="append", default=[], metavar=f"{each}KIND",
        help="gpu, gpu:N, mig:PROFILE, dra:PROFILE, dra-gpu or cpu; by model, or for all (default gpu)",
    )  # fmt: skip
    group.add_argument("--queue", action="append", default=[], metavar=f"{each}NAME", help="LocalQueue")
    group.add_argument(
        "--priority-class", action="append", default=[], metavar=f"{each}NAME", help="WorkloadPriorityClass"
    )
    group.add_argument(
        "--gap", type=parse_seconds, default=0.0, metavar="SECONDS", help="between two submissions (default: none)"
    )
    group.add_argument(
        "--restarts", action="store_true", help="preempted workers start from the beginning, as openai/whisper does"
    )


def add_speed_flags(group: argparse._ArgumentGroup) -> None:
    """How fast audio is transcribed."""
    group.add_argument(
        "--speeds", choices=("faster-whisper", "openai-whisper"), default="faster-whisper", help="published figures"
    )
    group.add_argument("--measured", metavar="OUTPUT", help="measure speeds from the finished transcripts of a folder")
    group.add_argument("--rtf", action="append", default=[], metavar="MODEL=FACTOR", help="processing / audio seconds")
    group.add_argument(
        "--startup", type=parse_seconds, metavar="SECONDS", help="of each pod, before its first second of audio"
    )


def default_queue(cluster: ClusterModel) -> str:
    """The LocalQueue of Jobs without --queue: the only one that exists, else `default`."""
    kueue = cluster.kueue
    return next(iter(kueue.local_queues)) if kueue is not None and len(kueue.local_queues) == 1 else "default"


def read_cluster_model(args: argparse.Namespace) -> ClusterModel:
    """The planner's cluster, from --cluster files, a preset and the flags of nodes; InputError for an invalid file."""
    manifests: list[dict[str, Any]] = []
    for name in args.cluster:
        try:
            manifests += objects.parse_objects(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: cannot be read: {error}", remedy="give a YAML file") from error
    if args.queues:
        setup = queues.build_preset(args.queues, "default", args.nodes * args.gpus, args.gpu)
        configuration = queues.build_manager_configuration(setup)
        manifests += [*queues.build_kueue_objects(setup), *([configuration] if configuration else [])]
    cluster = objects.build_cluster_model(manifests, sharing=args.sharing, nodes=_build_nodes(args))
    return msgspec.structs.replace(
        cluster, resume_after_preemption=not args.restarts, delays=ControlPlaneDelays(submit_interval=args.gap)
    )


def read_speeds(args: argparse.Namespace) -> SpeedModel:
    """Published speeds, replaced by measured ones and by --rtf and --startup."""
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
            raise InputError(f"--rtf {text}", remedy="give MODEL=FACTOR, e.g. large=0.27")
    return speed.override_speeds(speeds, factors, args.startup)


def _build_nodes(args: argparse.Namespace) -> tuple[GpuNode, ...]:
    """Nodes of the flags. Without --sharing, the accelerators that Jobs request decide how GPUs are shared."""
    requested = " ".join(args.accelerator)
    default: GpuSharing = "das" if "mig:" in requested else "dra" if "dra" in requested else "whole"
    return build_gpu_nodes(args.nodes, gpus=args.gpus, gpu=args.gpu, sharing=args.sharing or default)
