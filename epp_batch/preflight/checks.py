"""Finds everything that would keep a run's Jobs from ever being admitted or scheduled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from epp.errors import Problem
from epp_batch.errors import InputError
from epp_batch.manifests import KubeObject, accelerators
from epp_batch.manifests.quantities import format_quantity
from epp_batch.preflight import quota
from epp_batch.preflight.nodes import check_dra_devices, check_node_capacity, is_tolerated
from epp_batch.spec import ClusterOptions, Placement, Run

KubeObjects = Sequence[KubeObject]
STOP_POLICIES = {"Hold", "HoldAndDrain"}


@dataclass(frozen=True)
class ClusterInventory:
    """The cluster's objects that preflight judges. None: the user may not list them; they are not judged."""

    local_queues: KubeObjects
    """Of the run's namespace."""
    cluster_queues: KubeObjects | None = None
    flavors: KubeObjects | None = None
    priority_classes: KubeObjects | None = None
    device_classes: KubeObjects | None = None
    nodes: KubeObjects | None = None
    cohorts: KubeObjects = ()
    volume_claims: KubeObjects | None = None
    """Of the run's namespace."""
    slices: KubeObjects | None = None
    """ResourceSlices, which publish DRA devices."""
    configuration: KubeObject | None = None
    """The Kueue manager's Configuration."""
    namespace_exists: bool = True


@dataclass(frozen=True)
class PlacementRequest:
    """The request that the Jobs of some models share."""

    models: tuple[str, ...]
    queue: str
    placement: Placement = field(default_factory=Placement)


def list_placement_requests(run: Run) -> list[PlacementRequest]:
    """Each distinct request of the run, with its models."""
    if run.cluster is None:
        raise InputError(f"run {run.name} has no cluster settings", remedy="continue it with epp-batch transcribe")
    by_placement: dict[Placement, list[str]] = {}
    for model in dict.fromkeys(unit.model for unit in run.units):
        by_placement.setdefault(run.cluster.placement_for(model), []).append(model)
    return [
        PlacementRequest(tuple(models), placement.queue or run.cluster.queue, placement)
        for placement, models in by_placement.items()
    ]


def find_problems(run: Run, inventory: ClusterInventory) -> list[Problem]:
    """All problems of the run, each with its object and what to do, without duplicates.

    A missing namespace is reported alone: nothing in it can be judged.
    """
    if not inventory.namespace_exists and run.cluster is not None:
        return [Problem(f"Namespace {run.cluster.namespace}", "does not exist; create it, or give --namespace NAME")]
    problems: list[Problem] = []
    for request in list_placement_requests(run):
        problems += _check_local_queue(run, request, inventory)
        problems += _check_classes(request, inventory)
    problems += _check_volume_claims(run, inventory)
    return list(dict.fromkeys(problems))


def _check_local_queue(run: Run, request: PlacementRequest, inventory: ClusterInventory) -> Iterator[Problem]:
    assert run.cluster is not None
    path = f"LocalQueue {run.cluster.namespace}/{request.queue}"
    by_name = {queue["metadata"]["name"]: queue for queue in inventory.local_queues}
    local = by_name.get(request.queue)
    if local is None:
        existing = (
            f"there {'are' if len(by_name) > 1 else 'is'} {', '.join(sorted(by_name))}" if by_name else "it has none"
        )
        yield Problem(
            path,
            f"does not exist in this namespace; {existing}: give --queue NAME, or create one with epp-batch queues",
        )
        return
    if local["spec"].get("stopPolicy") in STOP_POLICIES:
        yield Problem(path, f"is stopped (stopPolicy {local['spec']['stopPolicy']}); its owner has to set it to None")
    if inventory.cluster_queues is None:
        return
    name = local["spec"]["clusterQueue"]
    found = next((queue for queue in inventory.cluster_queues if queue["metadata"]["name"] == name), None)
    if found is None:
        yield Problem(path, f"belongs to ClusterQueue {name}, which does not exist; create it with epp-batch queues")
        return
    yield from _check_cluster_queue(run.cluster, found, inventory)
    yield from _check_request(run.cluster, request, found, inventory)


def _check_cluster_queue(cluster: ClusterOptions, queue: KubeObject, inventory: ClusterInventory) -> Iterator[Problem]:
    path = f"ClusterQueue {queue['metadata']['name']}"
    spec = queue["spec"]
    if spec.get("stopPolicy") in STOP_POLICIES:
        yield Problem(path, f"is stopped (stopPolicy {spec['stopPolicy']}); its owner has to set it to None")
        return
    if not _may_select_namespace(spec.get("namespaceSelector"), cluster.namespace):
        yield Problem(
            path, f"does not select namespace {cluster.namespace}; extend its namespaceSelector ({{}} selects all)"
        )
    if inventory.flavors is not None:
        known = {flavor["metadata"]["name"] for flavor in inventory.flavors}
        offered = dict.fromkeys(
            offer["name"] for group in quota.resource_groups(queue) for offer in group.get("flavors", ())
        )
        missing = [name for name in offered if name not in known]
        for name in missing:
            yield Problem(path, f"names ResourceFlavor {name}, which does not exist; create it with epp-batch queues")
        if missing:  # they explain the condition Active=False (reason FlavorNotFound), which says no more
            return
    conditions = (queue.get("status") or {}).get("conditions") or ()
    active = next((condition for condition in conditions if condition["type"] == "Active"), None)
    if active is not None and active["status"] == "False":
        why = f"{active.get('reason', '')}: {active.get('message', '')}".strip(": ")
        yield Problem(path, f"is not active ({why}); see kubectl describe clusterqueue {queue['metadata']['name']}")


def _may_select_namespace(selector: KubeObject | None, namespace: str) -> bool:
    """Whether the selector may match the namespace, of which only the name is known; other labels are not judged.

    As in Kueue's ClusterQueueSpec, a missing selector selects no namespace and an empty one selects all.
    """
    if selector is None:
        return False
    name = "kubernetes.io/metadata.name"
    if (selector.get("matchLabels") or {}).get(name, namespace) != namespace:
        return False
    for rule in selector.get("matchExpressions") or ():
        values = rule.get("values") or ()
        if rule["key"] == name and {"In": namespace not in values, "NotIn": namespace in values}.get(rule["operator"]):
            return False
    return True


def _check_request(
    cluster: ClusterOptions, request: PlacementRequest, queue: KubeObject, inventory: ClusterInventory
) -> Iterator[Problem]:
    """Yields resources that the queue does not cover, requests above its potential quota, and unsuitable nodes."""
    path = f"ClusterQueue {queue['metadata']['name']}"
    requested = quota.compute_pod_usage(request.placement, queue, inventory.configuration)
    covered = quota.covered_resources(queue)
    models = f"{'model' if len(request.models) == 1 else 'models'} {', '.join(request.models)}"
    uncovered = [name for name in requested if name not in covered]
    for name in uncovered:
        yield Problem(
            path, f"does not cover {name}, which {models} requests; {_suggest_coverage(request, name, covered)}"
        )
    if uncovered:
        return
    if not all(
        _is_known_flavor(offer["name"], inventory)
        for group in quota.resource_groups(queue)
        for offer in group.get("flavors", ())
    ):
        return
    usable: list[KubeObject] = []
    for group in quota.resource_groups(queue):
        part = {name: amount for name, amount in requested.items() if name in group.get("coveredResources", ())}
        if not part:
            continue
        fitting, reasons = _find_usable_flavors(cluster, queue, group, part, inventory)
        if not fitting:
            yield Problem(path, f"can never admit {models}: {'; '.join(reasons)}")
        usable += fitting
    # Admission checks may provision nodes (ProvisioningRequest), so that today's nodes say nothing about "never".
    checked = bool((queue["spec"].get("admissionChecksStrategy") or {}).get("admissionChecks"))
    if inventory.nodes is not None and usable and not checked:
        yield from check_node_capacity(cluster, request.placement, usable, inventory.nodes, models)
    if inventory.slices is not None and not checked:
        yield from check_dra_devices(request.placement, inventory.slices, models)


def _is_known_flavor(flavor: str, inventory: ClusterInventory) -> bool:
    return inventory.flavors is None or any(each["metadata"]["name"] == flavor for each in inventory.flavors)


def _find_usable_flavors(
    cluster: ClusterOptions,
    queue: KubeObject,
    group: KubeObject,
    requested: quota.ResourceUsage,
    inventory: ClusterInventory,
) -> tuple[list[KubeObject], list[str]]:
    """Flavors of a resource group that could hold the whole request, and the reasons why the others cannot.

    Kueue's flavor assigner puts all resources of a group into one flavor.
    """
    cohort_quotas = quota.CohortQuotas(inventory.cluster_queues or (), inventory.cohorts)
    known = {flavor["metadata"]["name"]: flavor for flavor in inventory.flavors or ()}
    fitting, reasons = [], []
    for offer in group.get("flavors", ()):
        name = offer["name"]
        flavor = known.get(name, {"metadata": {"name": name}, "spec": {}})
        excess = [
            f"{format_quantity(amount)} {resource} of at most {format_quantity(potential)}"
            for resource, amount in requested.items()
            if amount > (potential := cohort_quotas.potential_available(queue["metadata"]["name"], name, resource))
        ]
        if excess:
            reasons.append(f"flavor {name} would need {', '.join(excess)}: raise nominalQuota or request less")
        elif why := _explain_unusable(cluster, flavor):
            reasons.append(f"flavor {name} {why}")
        else:
            fitting.append(flavor)
    return fitting, reasons


def _explain_unusable(cluster: ClusterOptions, flavor: KubeObject) -> str:
    """Why Kueue's `checkFlavorForPodSets` would reject a flavor with enough quota; "" if it would not."""
    spec = flavor.get("spec") or {}
    for taint in spec.get("nodeTaints") or ():
        if taint["effect"] != "PreferNoSchedule" and not is_tolerated(taint, spec.get("tolerations") or ()):
            return f"has taint {taint['key']}, which no toleration matches: add one to the flavor"
    for label, value in cluster.node_selector.items():
        if (offered := (spec.get("nodeLabels") or {}).get(label, value)) != value:
            return f"has {label}={offered}, but --node-selector requires {value}"
    return ""


def _suggest_coverage(request: PlacementRequest, name: str, covered: set[str]) -> str:
    if name in {"cpu", "memory"}:
        return f"omit --{name}, or add it to the queue (epp-batch queues --cover {name}=…)"
    covers = f"it covers {', '.join(sorted(covered))}" if covered else "it covers no resource"
    return (
        f"{covers}: choose another --accelerator than {request.placement.accelerator}, another --queue, "
        "or add it with epp-batch queues"
    )


def _check_classes(request: PlacementRequest, inventory: ClusterInventory) -> Iterator[Problem]:
    requested = request.placement.priority_class
    if requested and inventory.priority_classes is not None:
        names = sorted(each["metadata"]["name"] for each in inventory.priority_classes)
        if requested not in names:
            existing = f"there {'are' if len(names) > 1 else 'is'} {', '.join(names)}" if names else "there is none"
            yield Problem(
                f"WorkloadPriorityClass {requested}", f"does not exist; {existing}: give --priority-class NAME"
            )
    device = accelerators.parse_accelerator(request.placement.accelerator).device_class
    classes = {each["metadata"]["name"] for each in inventory.device_classes or ()}
    if device and inventory.device_classes is not None and device not in classes:
        yield Problem(f"DeviceClass {device}", "does not exist; install NVIDIA's DRA driver, or give --accelerator gpu")


def _check_volume_claims(run: Run, inventory: ClusterInventory) -> Iterator[Problem]:
    if inventory.volume_claims is None or run.cluster is None:
        return
    claims = {claim["metadata"]["name"]: claim for claim in inventory.volume_claims}
    for volume in run.cluster.volumes:
        kind, _, name = volume.source.partition("/")
        if kind != "pvc":
            continue
        path = f"PersistentVolumeClaim {run.cluster.namespace}/{name}"
        if name not in claims:
            yield Problem(
                path, f"does not exist; create it, or give another --volume for {volume.local or volume.mount}"
            )
        elif (claims[name].get("status") or {}).get("phase") == "Lost":
            yield Problem(path, "has lost its volume (phase Lost); bind it to a volume again")
