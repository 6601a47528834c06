"""The devices of one node, handed out by name as a device plugin does."""

from __future__ import annotations

from collections.abc import Mapping

from tests.kube.client import Object
from tests.kube.containers import quantity


class NoDevice(Exception):
    """A pod came for more devices than are free."""


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
