"""Flags for the API server and for where and how Jobs run, and the `ClusterOptions` that they make."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from epp_batch.cli.lib.flag_values import (
    parse_duration,
    parse_labels,
    parse_per_model,
    parse_retries,
    parse_user,
)
from epp_batch.errors import InputError
from epp_batch.manifests import accelerators, quantities, volumes
from epp_batch.spec import ClusterOptions, Placement


def add_connection_flags(parser: argparse.ArgumentParser) -> None:
    """API server, credentials and namespace."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--kubeconfig", metavar="PATH", help="default: $KUBECONFIG, ~/.kube/config, or the pod's service account"
    )
    group.add_argument("--context", metavar="NAME", help="context of the kubeconfig (default: its current one)")
    group.add_argument("--namespace", "-n", metavar="NAME", help="default: the context's")


def add_job_flags(parser: argparse.ArgumentParser) -> None:
    """Queue, image, storage, accelerator. A flag with `[MODEL=]` may be given once per model."""
    group = parser.add_argument_group("Jobs")

    def add_per_model(flag: str, metavar: str, text: str) -> None:
        group.add_argument(flag, action="append", default=[], metavar=metavar, help=text)

    add_per_model("--queue", "[MODEL=]NAME", "LocalQueue of the Jobs")
    add_per_model("--accelerator", "[MODEL=]WHAT", f"{accelerators.ACCELERATOR_KINDS} (default gpu)")
    add_per_model(
        "--priority-class",
        "[MODEL=]CLASS",
        "WorkloadPriorityClass: a higher one is admitted first, and preempts if the queue allows it",
    )
    add_per_model("--cpu", "[MODEL=]AMOUNT", "CPU request, e.g. 2 or 500m; the queue must cover it")
    add_per_model("--memory", "[MODEL=]AMOUNT", "memory request and limit, e.g. 8Gi; the queue must cover it")
    add_per_model(
        "--volume",
        "SOURCE=LOCAL[:MOUNT]",
        f"storage that this machine and the pods share, repeatable: {volumes.VOLUME_GRAMMAR}",
    )
    add = group.add_argument
    add("--image", required=True, metavar="REFERENCE", help="image of the worker; see deploy/batch/Dockerfile")
    add(
        "--retries",
        type=parse_retries,
        default=3,
        metavar="N",
        help="of a failed pod (backoffLimit); evictions do not count (default 3)",
    )
    add(
        "--max-exec",
        type=parse_duration,
        metavar="TIME",
        help="maximum execution time of each Job, all its admissions together",
    )
    add(
        "--ttl",
        type=parse_duration,
        default=86_400.0,
        metavar="TIME",
        help="how long ended Jobs are kept (default 24h)",
    )
    add(
        "--service-account",
        metavar="NAME",
        help="service account of the pods, for pulling images; its token is not mounted",
    )
    add(
        "--run-as",
        type=parse_user,
        metavar="UID[:GID]",
        help="user of the pods, who owns what they write (default: the image's)",
    )
    add("--node-selector", action="append", default=[], metavar="LABEL=VALUE", help="node label; repeatable")


def build_cluster(args: argparse.Namespace, namespace: str, models: Iterable[str]) -> ClusterOptions:
    """The options of the run's Jobs; call `check_job_flags` before.

    Raises InputError for an invalid value, or for a model that no recording has.
    """
    queues = parse_per_model("--queue", args.queue)
    shared = tuple(volumes.parse_volume(text) for text in args.volume)
    volumes.check_volumes(shared)
    if args.ttl < 60:
        remedy = "give 60s or more: results and times of a Job are read after its end"
        raise InputError("--ttl below a minute", remedy=remedy)
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
    """Raises InputError for values that are invalid for any recording: before hours of audio are read."""
    if not parse_per_model("--queue", args.queue):
        remedy = "give --queue NAME, a LocalQueue; `epp-batch queues` creates some"
        raise InputError("no queue was named", remedy=remedy)
    for text in parse_per_model("--accelerator", args.accelerator).values():
        accelerators.parse_accelerator(text)
    for text in args.volume:
        volumes.parse_volume(text)
    for flag, texts in (("--cpu", args.cpu), ("--memory", args.memory)):
        for text in parse_per_model(flag, texts).values():
            quantities.parse_quantity(text)


def _build_placements(args: argparse.Namespace, queues: dict[str, str], models: set[str]) -> dict[str, Placement]:
    """Placements by model, "*" for models that no flag names.

    A flag for a model that no recording has is an error, unless a --model rule names the model: a rule that matches
    none of today's recordings may match those of the next call.
    """
    flags = {
        "accelerator": parse_per_model("--accelerator", args.accelerator),
        "priority_class": parse_per_model("--priority-class", args.priority_class),
        "cpu": parse_per_model("--cpu", args.cpu),
        "memory": parse_per_model("--memory", args.memory),
        "model_path": parse_per_model("--model-path", args.model_path),
    }
    named = {model for values in (queues, *flags.values()) for model in values} - {"*"}
    rules = " ".join(args.model)
    if unknown := sorted(model for model in named - models if model not in rules):
        remedy = f"name one of {', '.join(sorted(models))}"
        raise InputError(f"no recording is for model {unknown[0]}, which a flag names", remedy=remedy)
    if "*" not in queues and (without := sorted(models - set(queues))):
        remedy = f"give --queue {without[0]}=NAME, or --queue NAME for all models"
        raise InputError(f"no queue for model {without[0]}", remedy=remedy)
    placements = {}
    for model in ["*", *sorted(named)]:
        values = {name: given.get(model, given.get("*")) for name, given in flags.items()}
        placements[model] = _build_placement(values, queues.get(model, queues.get("*")))
    return placements


def _build_placement(values: dict[str, str | None], queue: str | None) -> Placement:
    for flag in ("cpu", "memory"):
        if (text := values[flag]) and quantities.parse_quantity(text) <= 0:
            raise InputError(f"--{flag} {text}", remedy="give an amount above 0, e.g. 2, 500m or 8Gi")
    accelerator = accelerators.parse_accelerator(values["accelerator"] or "gpu")
    if accelerator == accelerators.CpuOnly() and not values["cpu"]:
        remedy = "add --cpu AMOUNT"
        raise InputError("--accelerator cpu alone requests nothing that a queue has quota for", remedy=remedy)
    return Placement(
        accelerator=accelerator.flag_value,
        cpu=values["cpu"],
        memory=values["memory"],
        queue=queue,
        priority_class=values["priority_class"],
        model_path=values["model_path"],
    )
