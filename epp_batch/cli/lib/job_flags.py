"""Flags of where and how Jobs run, and the Cluster that they make."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from epp_batch.cli.lib import source_flags
from epp_batch.errors import InputError
from epp_batch.manifests import accelerators, quantities, volumes
from epp_batch.spec import ClusterOptions, Placement


def add_connection_flags(parser: argparse.ArgumentParser) -> None:
    """Which API server, as whom."""
    group = parser.add_argument_group("cluster")
    group.add_argument("--kubeconfig", metavar="PATH", help="default: $KUBECONFIG, ~/.kube/config, or the pod's own")
    group.add_argument("--context", metavar="NAME", help="of the kubeconfig (default: its current one)")
    group.add_argument("--namespace", "-n", metavar="NAME", help="default: the context's")


def add_job_flags(parser: argparse.ArgumentParser) -> None:
    """Queue, image, storage, accelerator; `[MODEL=]` flags may be given once for each model."""
    group = parser.add_argument_group("Jobs")

    def add(flag: str, metavar: str, text: str) -> None:
        group.add_argument(flag, action="append", default=[], metavar=metavar, help=text)

    add("--queue", "[MODEL=]NAME", "LocalQueue that the Jobs wait in")
    add("--accelerator", "[MODEL=]WHAT", f"{accelerators.ACCELERATOR_KINDS} (default gpu)")
    add(
        "--priority-class",
        "[MODEL=]CLASS",
        "WorkloadPriorityClass: higher ones go first, and preempt where the queue lets them",
    )
    add("--cpu", "[MODEL=]AMOUNT", "request, as 2 or 500m; the queue has to cover it")
    add("--memory", "[MODEL=]AMOUNT", "request and limit, as 8Gi; the queue has to cover it")
    add("--volume", "SOURCE=LOCAL[:MOUNT]", f"storage that both sides see, repeatable: {volumes.VOLUME_GRAMMAR}")
    more = group.add_argument
    more("--image", required=True, metavar="REFERENCE", help="of the worker; see deploy/batch/Dockerfile")
    more(
        "--retries",
        type=_parse_retries,
        default=3,
        metavar="N",
        help="for pods that fail; evictions do not count (default 3)",
    )
    more(
        "--max-exec",
        type=source_flags.parse_duration,
        metavar="TIME",
        help="hard cap of each Job, over all its admissions",
    )
    more(
        "--ttl",
        type=source_flags.parse_duration,
        default=86_400.0,
        metavar="TIME",
        help="ended Jobs stay so long (default 24h)",
    )
    more("--service-account", metavar="NAME", help="of the pods, for pulling images; they get no token")
    more(
        "--run-as",
        type=_parse_user,
        metavar="UID[:GID]",
        help="owner of what the pods write (default: the image's user)",
    )
    more("--node-selector", action="append", default=[], metavar="LABEL=VALUE", help="of nodes; repeatable")


def build_cluster(args: argparse.Namespace, namespace: str, models: Iterable[str]) -> ClusterOptions:
    """What the flags say, after `check`. InputError for a value that cannot be, or a model that no recording has."""
    queues = source_flags.parse_per_model("--queue", args.queue)
    shared = tuple(volumes.parse_volume(text) for text in args.volume)
    volumes.check_volumes(shared)
    if args.ttl < 60:
        raise InputError("--ttl below a minute", remedy="results and times of a Job are read after its end")
    return ClusterOptions(
        namespace=namespace,
        queue=queues.get("*") or next(iter(queues.values())),
        image=args.image,
        volumes=shared,
        placements=_build_placements(args, queues, set(models)),
        retries=args.retries,
        max_exec_seconds=round(args.max_exec) if args.max_exec else None,
        ttl_seconds=round(args.ttl),
        service_account=args.service_account,
        run_as=args.run_as,
        node_selector=parse_labels("--node-selector", args.node_selector),
    )


def check_job_flags(args: argparse.Namespace) -> None:
    """InputError for what is wrong whatever the recordings are: said before hours of audio are read."""
    if not source_flags.parse_per_model("--queue", args.queue):
        raise InputError("no queue was named", remedy="--queue NAME of a LocalQueue; epp-batch queues makes some")
    for text in source_flags.parse_per_model("--accelerator", args.accelerator).values():
        accelerators.parse_accelerator(text)
    for text in args.volume:
        volumes.parse_volume(text)
    for flag, texts in (("--cpu", args.cpu), ("--memory", args.memory)):
        for text in source_flags.parse_per_model(flag, texts).values():
            quantities.parse_quantity(text)


def _build_placements(args: argparse.Namespace, queues: dict[str, str], models: set[str]) -> dict[str, Placement]:
    flags = {
        "accelerator": source_flags.parse_per_model("--accelerator", args.accelerator),
        "priority_class": source_flags.parse_per_model("--priority-class", args.priority_class),
        "cpu": source_flags.parse_per_model("--cpu", args.cpu),
        "memory": source_flags.parse_per_model("--memory", args.memory),
        "model_path": source_flags.parse_per_model("--model-path", args.model_path),
    }
    named = {model for values in (queues, *flags.values()) for model in values} - {"*"}
    rules = " ".join(args.model)
    if unknown := sorted(model for model in named - models if model not in rules):
        there = ", ".join(sorted(models))
        raise InputError(f"no recording is for model {unknown[0]}, which a flag names", remedy=f"models are {there}")
    if "*" not in queues and (without := sorted(models - set(queues))):
        raise InputError(f"no queue for model {without[0]}", remedy=f"--queue {without[0]}=NAME, or one --queue NAME")
    placements = {}
    for model in ["*", *sorted(named)]:
        values = {name: given.get(model, given.get("*")) for name, given in flags.items()}
        placements[model] = _build_placement(values, queues.get(model, queues.get("*")))
    return placements


def _build_placement(values: dict[str, str | None], queue: str | None) -> Placement:
    for flag in ("cpu", "memory"):
        if (text := values[flag]) and quantities.parse_quantity(text) <= 0:
            raise InputError(f"--{flag} {text}", remedy="an amount above 0, as 2, 500m or 8Gi")
    accelerator = accelerators.parse_accelerator(values["accelerator"] or "gpu")
    if accelerator == accelerators.CpuOnly() and not values["cpu"]:
        raise InputError("--accelerator cpu alone asks for nothing that a queue counts", remedy="--cpu AMOUNT with it")
    return Placement(
        accelerator=accelerator.flag_value,
        cpu=values["cpu"],
        memory=values["memory"],
        queue=queue,
        priority_class=values["priority_class"],
        model_path=values["model_path"],
    )


def parse_labels(flag: str, texts: list[str]) -> dict[str, str]:
    """`LABEL=VALUE` of a repeatable flag."""
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError(f"{flag} {text}", remedy="give LABEL=VALUE")
        found[name] = value
    return found


def _parse_user(text: str) -> str:
    if not all(part.isdecimal() for part in text.split(":", 1)):
        raise argparse.ArgumentTypeError(f"{text!r} is not UID or UID:GID, in numbers")
    return text


def _parse_retries(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 100")
    return int(text)
