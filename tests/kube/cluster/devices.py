"""Devices of a pod: allocated from a node's pool as by a device plugin, or by its resource claims (DRA)."""

from __future__ import annotations

from collections.abc import Mapping

from tests.kube.cluster.client import RESOURCE_CLAIMS, ApiError, KubeApi, Object
from tests.kube.cluster.containers import parse_quantity


class DeviceUnavailable(Exception):
    """A pod requests more devices than are free."""


async def list_claimed_devices(api: KubeApi, pod: Object) -> dict[str, list[str]]:
    """Devices of each container by the pod's resource claims; DeviceUnavailable if another pod reserved a claim."""
    allocated = {
        entry["name"]: await _list_allocated_devices(api, pod, entry) for entry in pod["spec"].get("resourceClaims", [])
    }
    found: dict[str, list[str]] = {}
    for container in pod["spec"]["containers"]:
        for reference in container.get("resources", {}).get("claims", []):
            results = allocated[reference["name"]]
            # A result of a `firstAvailable` request names its subrequest, too: REQUEST/SUBREQUEST.
            names = [r["device"] for r in results if reference.get("request") in {None, r["request"].split("/")[0]}]
            found.setdefault(container["name"], []).extend(names)
    return found


async def _list_allocated_devices(api: KubeApi, pod: Object, entry: Object) -> list[Object]:
    """The allocation of a claim that the pod names, or that was created from a ResourceClaimTemplate for it."""
    generated = {s["name"]: s.get("resourceClaimName", "") for s in pod["status"].get("resourceClaimStatuses", [])}
    name = entry.get("resourceClaimName") or generated.get(entry["name"], "")
    if not name:
        return []
    try:
        claim = await api.get(RESOURCE_CLAIMS, name, pod["metadata"]["namespace"])
    except ApiError as error:
        raise DeviceUnavailable(f"resource claim {name}: {error}") from error
    status = claim.get("status", {})
    if pod["metadata"]["uid"] not in {user["uid"] for user in status.get("reservedFor", [])}:
        raise DeviceUnavailable(f"resource claim {name} is not reserved for this pod")
    results: list[Object] = status["allocation"]["devices"]["results"]
    return results


class DevicePool:
    """Names of free devices, by extended resource."""

    def __init__(self, devices: Mapping[str, int]) -> None:
        """`devices`: extended resource -> count. nvidia.com/gpu of 2 gives gpu-0 and gpu-1."""
        self._free = {
            resource: [_device_name(resource, i) for i in range(count)] for resource, count in devices.items()
        }
        self._held: dict[str, list[tuple[str, str]]] = {}

    def allocate(self, pod: Object) -> dict[str, list[str]]:
        """Allocates devices by container; allocates none and raises DeviceUnavailable if too few are free."""
        held = self._held.setdefault(pod["metadata"]["uid"], [])
        allocated: dict[str, list[str]] = {}
        for container in pod["spec"]["containers"]:
            limits = container.get("resources", {}).get("limits", {})
            for resource, amount in limits.items():
                free = self._free.get(resource)
                if free is None:
                    continue
                count = int(parse_quantity(amount))
                if count > len(free):
                    self.release(pod)
                    raise DeviceUnavailable(f"{count} of {resource} requested, {len(free)} free")
                names = [free.pop(0) for _ in range(count)]
                held += [(resource, name) for name in names]
                allocated.setdefault(container["name"], []).extend(names)
        return allocated

    def release(self, pod: Object) -> None:
        """Releases the devices of a pod."""
        for resource, name in self._held.pop(pod["metadata"]["uid"], []):
            self._free[resource].append(name)


def _device_name(resource: str, index: int) -> str:
    return f"{resource.rsplit('/', maxsplit=1)[-1].replace('.', '-')}-{index}"
