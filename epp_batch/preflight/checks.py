"""Why Jobs would wait for ever: found before any is created, over objects that somebody else has read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from epp.errors import Problem
from epp_batch.errors import InputError
from epp_batch.manifests import accelerators
from epp_batch.manifests.quantities import format_quantity
from epp_batch.preflight import quota
from epp_batch.preflight.nodes import check_dra_devices, check_node_capacity, is_tolerated
from epp_batch.spec import ClusterOptions, Placement, Run

Object = dict[str, Any]
Objects = Sequence[Object]
STOPPING_POLICIES = {"Hold", "HoldAndDrain"}


@dataclass(frozen=True)
class ClusterInventory:
    """What the API server had. None where one may not look, which is then not judged."""

    local_queues: Objects
    """Of the run's namespace."""
    cluster_queues: Objects | None = None
    flavors: Objects | None = None
    priority_classes: Objects | None = None
    device_classes: Objects | None = None
    nodes: Objects | None = None
    cohorts: Objects = ()
    volume_claims: Objects | None = None
    """Of the run's namespace."""
    slices: Objects | None = None
    """ResourceSlices, which list the devices of DRA."""
    configuration: Object | None = None
    """The Kueue manager's."""
    namespace_exists: bool = True


@dataclass(frozen=True)
class PlacementRequest:
    """What all Jobs of some models ask for."""

    models: tuple[str, ...]
    queue: str
    placement: Placement = field(default_factory=Placement)


def list_placement_requests(run: Run) -> list[PlacementRequest]:
    """Each distinct request of the run, with the models that make it."""
    if run.cluster is None:
        raise InputError(f"run {run.name} is not for a cluster", remedy="epp-batch transcribe goes on with it")
    by_placement: dict[Placement, list[str]] = {}
    for model in dict.fromkeys(unit.model for unit in run.units):
        by_placement.setdefault(run.cluster.placement_for(model), []).append(model)
    return [
        PlacementRequest(tuple(models), placement.queue or run.cluster.queue, placement)
        for placement, models in by_placement.items()
    ]


def preflight(
    run: Run,
    *,
    local_queues: Objects,
    cluster_queues: Objects | None,
    flavors: Objects | None,
    priority_classes: Objects | None,
    device_classes: Objects | None,
    nodes: Objects | None,
    **more: Any,
) -> list[Problem]:
    """Everything that would keep the run's Jobs from ever running, each with its object and the way out.

    None stands for what may not be read. `more` are the other fields of `Seen`.
    """
    seen = ClusterInventory(local_queues, cluster_queues, flavors, priority_classes, device_classes, nodes, **more)
    return find_problems(run, seen)


def find_problems(run: Run, seen: ClusterInventory) -> list[Problem]:
    """`preflight` over what was seen."""
    if not seen.namespace_exists and run.cluster is not None:
        return [Problem(f"Namespace {run.cluster.namespace}", "does not exist; make it, or --namespace NAME")]
    problems: list[Problem] = []
    for ask in list_placement_requests(run):
        problems += _check_local_queue(run, ask, seen)
        problems += _check_classes(ask, seen)
    problems += _check_volume_claims(run, seen)
    return list(dict.fromkeys(problems))


def _check_local_queue(run: Run, ask: PlacementRequest, seen: ClusterInventory) -> Iterator[Problem]:
    assert run.cluster is not None
    path = f"LocalQueue {run.cluster.namespace}/{ask.queue}"
    by_name = {queue["metadata"]["name"]: queue for queue in seen.local_queues}
    local = by_name.get(ask.queue)
    if local is None:
        there = (
            f"there {'are' if len(by_name) > 1 else 'is'} {', '.join(sorted(by_name))}" if by_name else "it has none"
        )
        yield Problem(
            path, f"does not exist in this namespace; {there}: --queue NAME, or make one with epp-batch queues"
        )
        return
    if local["spec"].get("stopPolicy") in STOPPING_POLICIES:
        yield Problem(path, f"is stopped (stopPolicy {local['spec']['stopPolicy']}); its owner has to set it to None")
    if seen.cluster_queues is None:
        return
    name = local["spec"]["clusterQueue"]
    found = next((queue for queue in seen.cluster_queues if queue["metadata"]["name"] == name), None)
    if found is None:
        yield Problem(path, f"belongs to ClusterQueue {name}, which does not exist; make it with epp-batch queues")
        return
    yield from _check_cluster_queue(run.cluster, found, seen)
    yield from _check_request(run.cluster, ask, found, seen)


def _check_cluster_queue(cluster: ClusterOptions, queue: Object, seen: ClusterInventory) -> Iterator[Problem]:
    path = f"ClusterQueue {queue['metadata']['name']}"
    spec = queue["spec"]
    if spec.get("stopPolicy") in STOPPING_POLICIES:
        yield Problem(path, f"is stopped (stopPolicy {spec['stopPolicy']}); its owner has to set it to None")
        return
    if not _may_select_namespace(spec.get("namespaceSelector"), cluster.namespace):
        yield Problem(
            path, f"does not take namespace {cluster.namespace}; widen its namespaceSelector ({{}} takes all)"
        )
    if seen.flavors is not None:
        known = {flavor["metadata"]["name"] for flavor in seen.flavors}
        offered = dict.fromkeys(
            offer["name"] for group in quota.resource_groups(queue) for offer in group.get("flavors", ())
        )
        missing = [name for name in offered if name not in known]
        for name in missing:
            yield Problem(path, f"names ResourceFlavor {name}, which does not exist; make it with epp-batch queues")
        if missing:  # which is why it is not active
            return
    conditions = (queue.get("status") or {}).get("conditions") or ()
    active = next((condition for condition in conditions if condition["type"] == "Active"), None)
    if active is not None and active["status"] == "False":
        why = f"{active.get('reason', '')}: {active.get('message', '')}".strip(": ")
        yield Problem(
            path, f"is not active ({why}); kubectl describe clusterqueue {queue['metadata']['name']} says more"
        )


def _may_select_namespace(selector: Object | None, namespace: str) -> bool:
    """Whether a namespace with no labels but its name may pass; what depends on other labels may."""
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
    cluster: ClusterOptions, ask: PlacementRequest, queue: Object, seen: ClusterInventory
) -> Iterator[Problem]:
    """Resources that the queue does not cover, requests above all it could ever have, and nodes too small."""
    path = f"ClusterQueue {queue['metadata']['name']}"
    wanted = quota.compute_pod_usage(ask.placement, queue, seen.configuration)
    covers = quota.covered_resources(queue)
    whose = f"{'model' if len(ask.models) == 1 else 'models'} {', '.join(ask.models)}"
    uncovered = [name for name in wanted if name not in covers]
    for name in uncovered:
        yield Problem(path, f"does not cover {name}, which {whose} asks for; {_suggest_coverage(ask, name, covers)}")
    if uncovered:
        return
    if not all(
        _is_known_flavor(offer["name"], seen)
        for group in quota.resource_groups(queue)
        for offer in group.get("flavors", ())
    ):
        return
    usable: list[Object] = []
    for group in quota.resource_groups(queue):
        part = {name: amount for name, amount in wanted.items() if name in group.get("coveredResources", ())}
        if not part:
            continue
        fitting, reasons = _find_usable_flavors(cluster, queue, group, part, seen)
        if not fitting:
            yield Problem(path, f"can never admit {whose}: {'; '.join(reasons)}")
        usable += fitting
    checked = bool((queue["spec"].get("admissionChecksStrategy") or {}).get("admissionChecks"))
    if seen.nodes is not None and usable and not checked:
        yield from check_node_capacity(cluster, ask.placement, usable, seen.nodes, whose)
    if seen.slices is not None and not checked:
        yield from check_dra_devices(ask.placement, seen.slices, whose)


def _is_known_flavor(flavor: str, seen: ClusterInventory) -> bool:
    return seen.flavors is None or any(one["metadata"]["name"] == flavor for one in seen.flavors)


def _find_usable_flavors(
    cluster: ClusterOptions, queue: Object, group: Object, wanted: quota.ResourceUsage, seen: ClusterInventory
) -> tuple[list[Object], list[str]]:
    """Flavors of a group that could hold all that is wanted of it, and why the others cannot."""
    quotas = quota.CohortQuotas(seen.cluster_queues or (), seen.cohorts)
    known = {flavor["metadata"]["name"]: flavor for flavor in seen.flavors or ()}
    fitting, reasons = [], []
    for offer in group.get("flavors", ()):
        name = offer["name"]
        flavor = known.get(name, {"metadata": {"name": name}, "spec": {}})
        above = [
            f"{format_quantity(amount)} {resource} of at most {format_quantity(most)}"
            for resource, amount in wanted.items()
            if amount > (most := quotas.potential_available(queue["metadata"]["name"], name, resource))
        ]
        if above:
            reasons.append(f"flavor {name} would need {', '.join(above)}: raise nominalQuota or ask for less")
        elif why := _explain_unusable(cluster, flavor):
            reasons.append(f"flavor {name} {why}")
        else:
            fitting.append(flavor)
    return fitting, reasons


def _explain_unusable(cluster: ClusterOptions, flavor: Object) -> str:
    """Why Kueue would pass over a flavor that has room; empty if it would not."""
    spec = flavor.get("spec") or {}
    for taint in spec.get("nodeTaints") or ():
        if taint["effect"] != "PreferNoSchedule" and not is_tolerated(taint, spec.get("tolerations") or ()):
            return f"has taint {taint['key']}, which nothing tolerates: add the toleration to the flavor"
    for label, value in cluster.node_selector.items():
        if (offered := (spec.get("nodeLabels") or {}).get(label, value)) != value:
            return f"is {label}={offered}, but --node-selector wants {value}"
    return ""


def _suggest_coverage(ask: PlacementRequest, name: str, covers: set[str]) -> str:
    if name in {"cpu", "memory"}:
        return f"leave out --{name}, or have the queue cover it (epp-batch queues --cover {name}=…)"
    has = f"it covers {', '.join(sorted(covers))}" if covers else "it covers nothing"
    return f"{has}: another --accelerator than {ask.placement.accelerator}, another --queue, or epp-batch queues"


def _check_classes(ask: PlacementRequest, seen: ClusterInventory) -> Iterator[Problem]:
    wanted = ask.placement.priority_class
    if wanted and seen.priority_classes is not None:
        there = sorted(one["metadata"]["name"] for one in seen.priority_classes)
        if wanted not in there:
            also = f"there {'are' if len(there) > 1 else 'is'} {', '.join(there)}" if there else "there is none"
            yield Problem(f"WorkloadPriorityClass {wanted}", f"does not exist; {also}: --priority-class NAME")
    device = accelerators.parse_accelerator(ask.placement.accelerator).device_class
    classes = {one["metadata"]["name"] for one in seen.device_classes or ()}
    if device and seen.device_classes is not None and device not in classes:
        yield Problem(f"DeviceClass {device}", "does not exist; install NVIDIA's DRA driver, or --accelerator gpu")


def _check_volume_claims(run: Run, seen: ClusterInventory) -> Iterator[Problem]:
    if seen.volume_claims is None or run.cluster is None:
        return
    claims = {claim["metadata"]["name"]: claim for claim in seen.volume_claims}
    for volume in run.cluster.volumes:
        kind, _, name = volume.source.partition("/")
        if kind != "pvc":
            continue
        path = f"PersistentVolumeClaim {run.cluster.namespace}/{name}"
        if name not in claims:
            yield Problem(path, f"does not exist; make it, or another --volume for {volume.local or volume.mount}")
        elif (claims[name].get("status") or {}).get("phase") == "Lost":
            yield Problem(path, "has lost its volume; bind it to one again")
