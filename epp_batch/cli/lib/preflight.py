"""What a cluster shows of its queues and nodes before a run is submitted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, NamedTuple

import yaml

from epp.errors import Problem
from epp_batch.kube.client import ApiClient
from epp_batch.kube.errors import Conflict, Forbidden, Invalid, NotFound
from epp_batch.kube.resources import DEVICE_CLASSES, JOBS, NODES, KueueResources, Resource
from epp_batch.manifests.jobs import build_job
from epp_batch.preflight.checks import ClusterInventory, PlacementRequest, list_placement_requests
from epp_batch.spec import Run

RESOURCE_SLICES = Resource("resource.k8s.io/v1", "resourceslices", namespaced=False)
PERSISTENT_VOLUME_CLAIMS = Resource("v1", "persistentvolumeclaims")
NAMESPACES = Resource("v1", "namespaces", namespaced=False)
CONFIG_MAPS = Resource("v1", "configmaps")
KUEUE_MANAGER_CONFIG = ("kueue-system", "kueue-manager-config")
Objects = list[dict[str, Any]]


class ClusterSnapshot(NamedTuple):
    """One look at a cluster."""

    seen: ClusterInventory
    objects: Objects
    """All of it, each with its kind, for the planner."""


async def read_cluster(client: ApiClient, namespace: str) -> ClusterSnapshot:
    """Reads everything that preflight and planner judge by; what these credentials may not read is left out.

    Raises ClusterError where there is no Kueue or no such namespace, and Unreachable.
    """
    kueue = await client.discover_kueue()
    kinds = _listed_resources(kueue)
    lists = await asyncio.gather(
        *(
            _none_if_forbidden(client.list_if_served(resource, namespace if resource.namespaced else ""))
            for resource in kinds.values()
        )
    )
    found: dict[str, Objects | None] = dict(zip(kinds, lists, strict=True))
    configuration = await _read_kueue_configuration(client)
    seen = ClusterInventory(
        local_queues=found["LocalQueue"] or [],
        cluster_queues=found["ClusterQueue"],
        flavors=found["ResourceFlavor"],
        priority_classes=found["WorkloadPriorityClass"],
        device_classes=found["DeviceClass"],
        nodes=found["Node"],
        cohorts=found["Cohort"] or (),
        volume_claims=found["PersistentVolumeClaim"],
        slices=found["ResourceSlice"],
        configuration=configuration,
        namespace_exists=await _namespace_exists(client, NAMESPACES.path(name=namespace)),
    )
    every = [{**one, "kind": kind} for kind, items in found.items() for one in items or ()]
    if configuration is not None:
        every.append({"kind": "Configuration", **configuration})
    return ClusterSnapshot(seen, every)


async def dry_run_jobs(client: ApiClient, run: Run) -> list[Problem]:
    """What the API server itself says to one Job of each kind, without making it: policies, missing rights."""
    namespace = run.cluster.namespace if run.cluster is not None else ""
    problems = []
    for ask in list_placement_requests(run):
        unit = next(unit for unit in run.units if unit.model in ask.models)
        try:
            await client.create(JOBS.path(namespace), build_job(unit, run), dryRun="All", fieldValidation="Strict")
        except Conflict:
            continue
        except (Invalid, Forbidden, NotFound) as error:
            problems.append(Problem(f"Job {namespace}/{unit.name}", _describe_rejection(error, ask)))
    return problems


def _describe_rejection(error: Invalid | Forbidden | NotFound, ask: PlacementRequest) -> str:
    return f"the server refuses it (model {', '.join(ask.models)}): {' '.join(str(error).split())}"


def _listed_resources(kueue: KueueResources) -> dict[str, Resource]:
    return {
        "LocalQueue": kueue.local_queues,
        "ClusterQueue": kueue.cluster_queues,
        "Cohort": Resource(kueue.resource_flavors.group_version, "cohorts", namespaced=False),
        "ResourceFlavor": kueue.resource_flavors,
        "WorkloadPriorityClass": kueue.workload_priority_classes,
        "DeviceClass": DEVICE_CLASSES,
        "Node": NODES,
        "ResourceSlice": RESOURCE_SLICES,
        "PersistentVolumeClaim": PERSISTENT_VOLUME_CLAIMS,
    }


async def _none_if_forbidden(reading: Awaitable[Objects]) -> Objects | None:
    try:
        return await reading
    except Forbidden:
        return None


async def _namespace_exists(client: ApiClient, path: str) -> bool:
    """True as well where one may not look."""
    try:
        await client.get(path)
    except NotFound:
        return False
    except Forbidden:
        return True
    return True


async def _read_kueue_configuration(client: ApiClient) -> dict[str, Any] | None:
    """Kueue's own, where its ConfigMap is where Kueue's manifests put it and may be read."""
    try:
        held = await client.get(CONFIG_MAPS.path(*KUEUE_MANAGER_CONFIG))
    except (NotFound, Forbidden):
        return None
    for text in (held.get("data") or {}).values():
        try:
            read = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        if isinstance(read, dict) and read.get("kind") == "Configuration":
            return read
    return None
