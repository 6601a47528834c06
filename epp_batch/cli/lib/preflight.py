"""Reads what preflight checks and planner need from a cluster, before a run is submitted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, NamedTuple

import yaml

from epp.errors import Problem
from epp_batch.controller.job_writer import JobWriter
from epp_batch.kube.client import ApiClient, KubeObject, KubeObjects
from epp_batch.kube.errors import Forbidden, Invalid, NotFound
from epp_batch.kube.resources import (
    CONFIG_MAPS,
    DEVICE_CLASSES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    RESOURCE_SLICES,
    KueueResources,
    Resource,
)
from epp_batch.preflight.checks import ClusterInventory, list_placement_requests
from epp_batch.spec import Run

KUEUE_MANAGER_CONFIG = ("kueue-system", "kueue-manager-config")
"""Namespace and name of the manager's ConfigMap in Kueue's own manifests."""


class ClusterSnapshot(NamedTuple):
    """The queues, nodes and devices of a cluster at one moment."""

    inventory: ClusterInventory
    """For the checks of `epp_batch.preflight`."""
    objects: KubeObjects
    """The same objects, each with its kind, for `epp_batch.planner.objects`."""


async def read_cluster(client: ApiClient, namespace: str) -> ClusterSnapshot:
    """Lists everything that the checks and the planner look at. What these credentials may not read is left out.

    Raises ClusterError if Kueue is not installed, ApiServerUnreachable if the server does not answer.
    """
    kueue = await client.discover_kueue()
    resources = _listed_resources(kueue)
    lists = await asyncio.gather(
        *(
            _none_if_forbidden(client.list_if_served(resource, namespace if resource.namespaced else ""))
            for resource in resources.values()
        )
    )
    listed: dict[str, KubeObjects | None] = dict(zip(resources, lists, strict=True))
    configuration = await _read_kueue_configuration(client)
    inventory = ClusterInventory(
        local_queues=listed["LocalQueue"] or [],
        cluster_queues=listed["ClusterQueue"],
        flavors=listed["ResourceFlavor"],
        priority_classes=listed["WorkloadPriorityClass"],
        device_classes=listed["DeviceClass"],
        nodes=listed["Node"],
        cohorts=listed["Cohort"] or (),
        volume_claims=listed["PersistentVolumeClaim"],
        slices=listed["ResourceSlice"],
        configuration=configuration,
        namespace_exists=await _namespace_exists(client, namespace),
    )
    objects = [{**item, "kind": kind} for kind, items in listed.items() for item in items or ()]
    if configuration is not None:
        objects.append({"kind": "Configuration", **configuration})
    return ClusterSnapshot(inventory, objects)


async def dry_run_jobs(client: ApiClient, run: Run) -> list[Problem]:
    """Problems that the API server finds with one Job of each distinct request: admission policies, missing rights."""
    namespace = run.cluster.namespace if run.cluster is not None else ""
    writer, problems = JobWriter(client, namespace), []
    for request in list_placement_requests(run):
        unit = next(unit for unit in run.units if unit.model in request.models)
        try:
            await writer.validate_job(unit, run)
        except (Invalid, Forbidden, NotFound) as error:
            models, message = ", ".join(request.models), " ".join(str(error).split())
            text = f"the API server rejects it (model {models}): {message}"
            problems.append(Problem(f"Job {namespace}/{unit.name}", text))
    return problems


def _listed_resources(kueue: KueueResources) -> dict[str, Resource]:
    return {
        "LocalQueue": kueue.local_queues,
        "ClusterQueue": kueue.cluster_queues,
        "Cohort": kueue.cohorts,
        "ResourceFlavor": kueue.resource_flavors,
        "WorkloadPriorityClass": kueue.workload_priority_classes,
        "DeviceClass": DEVICE_CLASSES,
        "Node": NODES,
        "ResourceSlice": RESOURCE_SLICES,
        "PersistentVolumeClaim": PERSISTENT_VOLUME_CLAIMS,
    }


async def _none_if_forbidden(listing: Awaitable[KubeObjects]) -> KubeObjects | None:
    try:
        return await listing
    except Forbidden:
        return None


async def _namespace_exists(client: ApiClient, namespace: str) -> bool:
    """Whether the namespace exists; True if these credentials may not read namespaces."""
    try:
        await client.get(NAMESPACES.path(name=namespace))
    except NotFound:
        return False
    except Forbidden:
        return True
    return True


async def _read_kueue_configuration(client: ApiClient) -> KubeObject | None:
    """Configuration of Kueue's manager; None if its ConfigMap has another name or may not be read."""
    try:
        config_map = await client.get(CONFIG_MAPS.path(*KUEUE_MANAGER_CONFIG))
    except (NotFound, Forbidden):
        return None
    for text in (config_map.get("data") or {}).values():
        try:
            document: Any = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        if isinstance(document, dict) and document.get("kind") == "Configuration":
            return document
    return None
