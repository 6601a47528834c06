"""The devices that a pod gets: by name from a node's pool as a device plugin does, and those of its resource claims."""

from __future__ import annotations

from collections.abc import Mapping

from tests.kube.cluster.client import RESOURCE_CLAIMS, Api, ApiError, Object
from tests.kube.cluster.containers import quantity


class NoDevice(Exception):
    """A pod came for more devices than are free."""


async def claimed(api: Api, pod: Object) -> dict[str, list[str]]:
    """The devices allocated to each container by the pod's resource claims; NoDevice if a claim is not this pod's."""
    allocated = {entry["name"]: await _allocated(api, pod, entry) for entry in pod["spec"].get("resourceClaims", [])}
    found: dict[str, list[str]] = {}
    for container in pod["spec"]["containers"]:
        for wanted in container.get("resources", {}).get("claims", []):
            results = allocated[wanted["name"]]
            names = [r["device"] for r in results if wanted.get("request") in {None, r["request"].split("/")[0]}]
            found.setdefault(container["name"], []).extend(names)
    return found


async def _allocated(api: Api, pod: Object, entry: Object) -> list[Object]:
    made = {s["name"]: s.get("resourceClaimName", "") for s in pod["status"].get("resourceClaimStatuses", [])}
    name = entry.get("resourceClaimName") or made.get(entry["name"], "")
    if not name:
        return []
    try:
        claim = await api.get(RESOURCE_CLAIMS, name, pod["metadata"]["namespace"])
    except ApiError as error:
        raise NoDevice(f"resource claim {name}: {error}") from error
    status = claim.get("status", {})
    if pod["metadata"]["uid"] not in {user["uid"] for user in status.get("reservedFor", [])}:
        raise NoDevice(f"resource claim {name} is not reserved for this pod")
    results: list[Object] = status["allocation"]["devices"]["results"]
    return results


class DevicePool:
    """Names of free devices, by extended resource."""

    def __init__(self, devices: Mapping[str, int]) -> None:
        """`devices`: extended resource -> count. nvidia.com/gpu of 2 gives gpu-0 and gpu-1."""
        self._free = {resource: [_name(resource, i) for i in range(count)] for resource, count in devices.items()}
        self._held: dict[str, list[tuple[str, str]]] = {}

    def take(self, pod: Object) -> dict[str, list[str]]:
        """The device names of each container; NoDevice, and none is taken, if there are too few."""
        held = self._held.setdefault(pod["metadata"]["uid"], [])
        taken: dict[str, list[str]] = {}
        for container in pod["spec"]["containers"]:
            limits = container.get("resources", {}).get("limits", {})
            for resource, amount in limits.items():
                free = self._free.get(resource)
                if free is None:
                    continue
                count = int(quantity(amount))
                if count > len(free):
                    self.give_back(pod)
                    raise NoDevice(f"{count} of {resource} wanted, {len(free)} free")
                names = [free.pop(0) for _ in range(count)]
                held += [(resource, name) for name in names]
                taken.setdefault(container["name"], []).extend(names)
        return taken

    def give_back(self, pod: Object) -> None:
        """Frees what the pod holds."""
        for resource, name in self._held.pop(pod["metadata"]["uid"], []):
            self._free[resource].append(name)


def _name(resource: str, index: int) -> str:
    return f"{resource.rsplit('/', maxsplit=1)[-1].replace('.', '-')}-{index}"
