"""`epp-batch queues`: Kueue's objects for Whisper Jobs, printed as YAML or applied."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from epp_batch.cli.lib import job_flags
from epp_batch.cli.lib.flag_values import parse_labels, parse_per_model, parse_positive_int
from epp_batch.cli.lib.text_output import dump_yaml_stream
from epp_batch.errors import InputError
from epp_batch.manifests.quantities import parse_quantity
from epp_batch.manifests.queues import (
    GPU_MODELS,
    QUEUE_PRESETS,
    KueueSetup,
    build_kueue_objects,
    build_manager_configuration,
    build_preset,
)

if TYPE_CHECKING:
    from epp_batch.kube.client import ApiClient

EXAMPLES = """\
examples:
  the paper's queue with priorities over 8 GPUs
    epp-batch queues --preset paper-c --namespace whisper | kubectl apply -f -
  slices of 16 H100, for Jobs that also request memory; then the configuration that Kueue's manager needs for it
    epp-batch queues --preset slots --gpus 16 --gpu H100-80 --cover memory=2Ti --namespace whisper --apply
    epp-batch queues --preset slots --gpu H100-80 --configuration
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    presets = "; ".join(f"{name}: {preset.description}" for name, preset in QUEUE_PRESETS.items())
    parser.add_argument(
        "--preset", choices=tuple(QUEUE_PRESETS), default="paper-a", help=f"{presets} (default %(default)s)"
    )
    job_flags.add_connection_flags(parser)
    group = parser.add_argument_group("quota")
    add = group.add_argument
    add("--gpus", type=parse_positive_int, default=8, metavar="N", help="number of GPUs (default %(default)s)")
    add("--gpu", choices=tuple(GPU_MODELS), default="A100-40", help="their model, for slices (default %(default)s)")
    add("--flavor", metavar="NAME", help="name of the ResourceFlavor (default: the preset's)")
    add("--node-label", action="append", default=[], metavar="LABEL=VALUE", help="of the flavor's nodes; repeatable")
    add(
        "--toleration",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="for a taint of the flavor's nodes; repeatable",
    )
    add(
        "--cover",
        action="append",
        default=[],
        metavar="RESOURCE=QUOTA",
        help="another resource of each queue, e.g. cpu=64 or memory=512Gi, for Jobs that request it; repeatable",
    )
    add("--prefix", default="", metavar="TEXT", help="prefix for the names of all cluster-scoped objects")
    group = parser.add_argument_group("this command")
    group.add_argument(
        "--configuration",
        action="store_true",
        help="print the configuration that Kueue's manager needs instead (ConfigMap kueue-manager-config)",
    )
    group.add_argument("--apply", action="store_true", help="create or patch the objects instead of printing them")


def run(args: argparse.Namespace) -> int:
    """0. If the preset needs a configuration of Kueue's manager, a hint is printed on standard error."""
    if args.configuration and args.apply:
        raise InputError("--apply with --configuration", remedy="the manager's configuration is its administrator's")
    if args.apply:
        return asyncio.run(_apply_queues(args))
    setup = _build_setup(args, args.namespace or "default")
    if args.configuration:
        configuration = build_manager_configuration(setup)
        text = dump_yaml_stream([configuration]) if configuration else "# this preset needs no configuration of Kueue\n"
        print(text, end="")
        return 0
    print(dump_yaml_stream(build_kueue_objects(setup)), end="")
    _print_configuration_hint(args, setup)
    return 0


def _build_setup(args: argparse.Namespace, namespace: str) -> KueueSetup:
    setup = build_preset(args.preset, namespace, args.gpus, args.gpu)
    extra_quotas = parse_per_model("--cover", args.cover)
    for name, amount in extra_quotas.items():
        if name == "*":
            raise InputError(f"--cover {amount}", remedy="give RESOURCE=QUOTA, e.g. cpu=64")
        parse_quantity(amount)
    setup = msgspec.structs.replace(
        setup,
        extra_quotas=extra_quotas,
        tolerations=tuple(map(_parse_toleration, args.toleration)),
        flavor=args.flavor or setup.flavor,
        node_labels=parse_labels("--node-label", args.node_label) or setup.node_labels,
    )
    return setup.with_prefix(args.prefix)


def _parse_toleration(text: str) -> dict[str, str]:
    key, sign, value = text.partition("=")
    if not key:
        raise InputError(f"--toleration {text!r}", remedy="give KEY or KEY=VALUE")
    return {"key": key} | ({"operator": "Equal", "value": value} if sign else {"operator": "Exists"})


def _print_configuration_hint(args: argparse.Namespace, setup: KueueSetup) -> None:
    if build_manager_configuration(setup):
        flags = f"--preset {args.preset} --gpu {args.gpu}"
        print(
            f"epp-batch queues: Kueue's manager needs what epp-batch queues {flags} --configuration prints",
            file=sys.stderr,
        )


async def _apply_queues(args: argparse.Namespace) -> int:
    # Loads the HTTP client, which printing does not need.
    from epp_batch.kube.client import open_client

    async with open_client(args.kubeconfig, args.context) as client:
        kueue = await client.discover_kueue()
        if kueue.version != "v1beta2":
            raise InputError(f"{client.server} serves Kueue's {kueue.version}", remedy="Kueue 0.17 or newer is needed")
        setup = _build_setup(args, args.namespace or client.namespace)
        for manifest in build_kueue_objects(setup):
            result = await _apply_object(client, manifest)
            print(f"{manifest['kind']} {manifest['metadata']['name']} {result}")
    _print_configuration_hint(args, setup)
    return 0


async def _apply_object(client: ApiClient, manifest: dict[str, Any]) -> str:
    """Creates an object, or patches the existing one; `created` or `configured`, as kubectl says."""
    from epp_batch.kube.errors import Conflict
    from epp_batch.kube.resources import Resource

    kind, namespace = manifest["kind"], manifest["metadata"].get("namespace", "")
    plural = f"{kind.lower()}es" if kind.endswith("Class") else f"{kind.lower()}s"
    resource = Resource(manifest["apiVersion"], plural, namespaced=bool(namespace))
    try:
        await client.create(resource.path(namespace), manifest, fieldValidation="Strict")
    except Conflict:
        await client.patch(resource.path(namespace, manifest["metadata"]["name"]), manifest)
        return "configured"
    return "created"
