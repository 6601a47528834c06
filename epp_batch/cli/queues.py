"""`epp-batch queues`: Kueue's objects for Whisper Jobs, as YAML or made at once."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, Any

from epp_batch.cli.lib import job_flags, source_flags
from epp_batch.errors import InputError

if TYPE_CHECKING:
    from epp_batch.kube.client import ApiClient
    from epp_batch.manifests.queues import KueueSetup

HELP = "print, or make, the queues that Jobs wait in"
EXAMPLES = """\
examples:
  the paper's queue with priorities over 8 GPUs
    epp-batch queues --preset paper-c --namespace whisper | kubectl apply -f -
  slices of 16 H100, for Jobs that ask for memory too; then what Kueue itself has to be told
    epp-batch queues --preset slots --gpus 16 --gpu H100-80 --cover memory=2Ti --namespace whisper --apply
    epp-batch queues --preset slots --gpu H100-80 --configuration
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from epp_batch.manifests.queues import GPU_MODELS, QUEUE_PRESETS

    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    about = "; ".join(f"{name}: {preset.description}" for name, preset in QUEUE_PRESETS.items())
    parser.add_argument(
        "--preset", choices=tuple(QUEUE_PRESETS), default="paper-a", help=f"{about} (default %(default)s)"
    )
    job_flags.add_connection_flags(parser)
    group = parser.add_argument_group("what there is to share")
    add = group.add_argument
    add("--gpus", type=source_flags.parse_positive_int, default=8, metavar="N", help="in all (default %(default)s)")
    add("--gpu", choices=tuple(GPU_MODELS), default="A100-40", help="what they are, for slices (default %(default)s)")
    add("--flavor", metavar="NAME", help="of the ResourceFlavor (default: the preset's)")
    add("--node-label", action="append", default=[], metavar="LABEL=VALUE", help="of the flavor's nodes; repeatable")
    add(
        "--toleration",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="of a taint that these nodes have; repeatable",
    )
    add(
        "--cover",
        action="append",
        default=[],
        metavar="RESOURCE=QUOTA",
        help="a further resource of each queue, as cpu=64 or memory=512Gi, for Jobs that ask for it; repeatable",
    )
    add("--prefix", default="", metavar="TEXT", help="before the names of everything cluster-wide")
    group = parser.add_argument_group("this command")
    group.add_argument(
        "--configuration",
        action="store_true",
        help="print what Kueue's manager has to be configured with instead (config map kueue-manager-config)",
    )
    group.add_argument("--apply", action="store_true", help="make or change the objects instead of printing them")


def run(args: argparse.Namespace) -> int:
    """0; the manager's configuration, where one is needed, is named on stderr."""
    from epp_batch.cli.lib.dry_run import dump_yaml_stream
    from epp_batch.manifests.queues import build_kueue_objects, build_manager_configuration

    if args.configuration and args.apply:
        raise InputError("--apply with --configuration", remedy="the manager's configuration is its administrator's")
    if args.apply:
        return asyncio.run(_apply_queues(args))
    settings = _build_settings(args, args.namespace or "default")
    if args.configuration:
        needed = build_manager_configuration(settings)
        print(
            dump_yaml_stream([needed]) if needed else "# this preset needs nothing of Kueue's configuration\n", end=""
        )
        return 0
    print(dump_yaml_stream(build_kueue_objects(settings)), end="")
    _print_configuration_hint(args, settings)
    return 0


def _build_settings(args: argparse.Namespace, namespace: str) -> KueueSetup:
    import msgspec

    from epp_batch.manifests.quantities import parse_quantity
    from epp_batch.manifests.queues import build_preset

    settings = build_preset(args.preset, namespace, args.gpus, args.gpu)
    cover = source_flags.parse_per_model("--cover", args.cover)
    for name, amount in cover.items():
        if name == "*":
            raise InputError(f"--cover {amount}", remedy="give RESOURCE=QUOTA, as cpu=64")
        parse_quantity(amount)
    changes: dict[str, Any] = {"extra_quotas": cover, "tolerations": tuple(map(_parse_toleration, args.toleration))}
    if args.flavor:
        changes["flavor"] = args.flavor
    if args.node_label:
        changes["node_labels"] = job_flags.parse_labels("--node-label", args.node_label)
    return msgspec.structs.replace(settings, **changes).with_prefix(args.prefix)


def _parse_toleration(text: str) -> dict[str, str]:
    key, sign, value = text.partition("=")
    if not key:
        raise InputError(f"--toleration {text!r}", remedy="give KEY or KEY=VALUE")
    return {"key": key} | ({"operator": "Equal", "value": value} if sign else {"operator": "Exists"})


def _print_configuration_hint(args: argparse.Namespace, settings: KueueSetup) -> None:
    from epp_batch.manifests.queues import build_manager_configuration

    if build_manager_configuration(settings):
        flags = f"--preset {args.preset} --gpu {args.gpu}"
        print(
            f"epp-batch queues: Kueue's manager needs what epp-batch queues {flags} --configuration prints",
            file=sys.stderr,
        )


async def _apply_queues(args: argparse.Namespace) -> int:
    from epp_batch.kube.client import open_client
    from epp_batch.manifests.queues import build_kueue_objects

    async with open_client(args.kubeconfig, args.context) as client:
        kueue = await client.discover_kueue()
        if kueue.version != "v1beta2":
            raise InputError(f"{client.server} serves Kueue's {kueue.version}", remedy="Kueue 0.15 or newer is needed")
        settings = _build_settings(args, args.namespace or client.namespace)
        for one in build_kueue_objects(settings):
            what = await _apply_object(client, one)
            print(f"{one['kind']} {one['metadata']['name']} {what}")
    _print_configuration_hint(args, settings)
    return 0


async def _apply_object(client: ApiClient, one: dict[str, Any]) -> str:
    """Creates one object, or changes the one that is there to be as described."""
    from epp_batch.kube.errors import Conflict
    from epp_batch.kube.resources import Resource

    plural = f"{one['kind'].lower()}s" if not one["kind"].endswith("Class") else f"{one['kind'].lower()}es"
    namespace = one["metadata"].get("namespace", "")
    resource = Resource(one["apiVersion"], plural, namespaced=bool(namespace))
    try:
        await client.create(resource.path(namespace), one, fieldValidation="Strict")
    except Conflict:
        await client.patch(resource.path(namespace, one["metadata"]["name"]), one)
        return "configured"
    return "created"
