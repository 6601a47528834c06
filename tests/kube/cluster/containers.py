"""Arguments, environment and paths of a container for a process without a mount namespace. Pure."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from tests.kube.cluster.client import Object

_UNITS = {"": Decimal(1), "m": Decimal("0.001")}
_UNITS |= {unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)}
_UNITS |= {unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
# A path stands alone, or in a list or an assignment: "--out=/results/a", "/a:/b".
_BEFORE = r"(?<![^=:,\s])"
_AFTER = r"(?=[/:,\s]|$)"


class Mount(NamedTuple):
    """A mount path of the container and the folder of this machine behind it."""

    path: str
    folder: str


class UnknownImage(Exception):
    """No entry point is known for an image."""


def rewrite_paths(text: str, mounts: Sequence[Mount]) -> str:
    """Replaces every mount path in `text` by its folder; the longest path wins."""
    if not mounts:
        return text
    folders = {mount.path.rstrip("/"): mount.folder for mount in mounts}
    paths = "|".join(re.escape(path) for path in sorted(folders, key=len, reverse=True))
    return re.sub(f"{_BEFORE}({paths}){_AFTER}", lambda match: folders[match[1]], text)


def expand_variables(text: str, environment: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` by the variable, if set, and `$$` by `$`, as Kubernetes does."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([\w.-]+)\)", value, text)


def resolve_field_ref(pod: Object, path: str) -> str:
    """Value of a downward API `fieldRef`; empty if not set."""
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(pod["metadata"].get(match[1], {}).get(match[2], ""))
    value: object = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    if isinstance(value, dict):
        return "\n".join(f'{key}="{text}"' for key, text in value.items())
    return str(value)


def resolve_resource_field_ref(container: Object, reference: Object) -> str:
    """Value of a downward API `resourceFieldRef` in units of its divisor, rounded up."""
    kind, name = reference["resource"].split(".", 1)
    amount = container.get("resources", {}).get(kind, {}).get(name, "0")
    divisor = parse_quantity(reference.get("divisor", "1")) or Decimal(1)
    return str(math.ceil(parse_quantity(amount) / divisor))


def parse_quantity(text: str | int) -> Decimal:
    """Parses a Kubernetes quantity such as "500m", "2Gi" or "1e3"."""
    match = re.fullmatch(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([A-Za-z]*)", str(text))
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"invalid quantity {text!r}")
    return Decimal(match[1]) * _UNITS[match[2]]


class ContainerCommand(NamedTuple):
    """The argument vector of a container."""

    program: list[str]
    """Arguments of this machine, used unchanged."""
    arguments: list[str]
    """Arguments of the pod, in which variables and mount paths are replaced."""


def container_command(container: Object, entrypoints: Mapping[str, Sequence[str]]) -> ContainerCommand:
    """`command` or the image's entry point, then `args`; UnknownImage if there is neither."""
    command = list(container.get("command") or [])
    program = command[:1] if command else list(find_entry_point(container["image"], entrypoints))
    given = [*command[1:], *container.get("args", [])]
    if program[0] in {"python", "python3"}:
        return ContainerCommand([sys.executable, *program[1:]], given)
    return ContainerCommand([], program + given) if command else ContainerCommand(program, given)


def find_entry_point(image: str, entrypoints: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The entry point listed for the image's full name, or its last part without tag and digest."""
    short = image.rsplit("/", 1)[-1].split("@", maxsplit=1)[0].split(":", maxsplit=1)[0]
    for name in (image, short):
        if name in entrypoints:
            return entrypoints[name]
    raise UnknownImage(f"no entry point for image {image}; known: {', '.join(sorted(entrypoints)) or 'none'}")


def memory_limit(container: Object) -> int | None:
    """Bytes that the container may hold; None without a limit."""
    limit = container.get("resources", {}).get("limits", {}).get("memory")
    return None if limit is None else int(parse_quantity(limit))
