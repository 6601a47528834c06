"""Shared volumes: the --volume flag, pod volumes and mounts, and translation of local paths to paths in the pod."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from epp_batch.errors import InputError
from epp_batch.spec import Volume

VOLUME_GRAMMAR = "pvc/NAME=LOCAL[:MOUNT][:ro], host/PATH=LOCAL[:MOUNT][:ro], or image/REFERENCE=:MOUNT"
_GRAMMAR_REMEDY = f"expected {VOLUME_GRAMMAR}"


def parse_volume(text: str) -> Volume:
    """Parses one `--volume` flag; raises InputError if it is invalid.

    MOUNT defaults to LOCAL; LOCAL may be empty for storage that is not available on this machine.
    """
    source, sign, rest = text.partition("=")
    kind, slash, name = source.partition("/")
    if kind not in {"pvc", "host", "image"} or not slash or not name:
        raise InputError(f"--volume {text!r}: unknown kind or missing name", remedy=_GRAMMAR_REMEDY)
    read_only = rest.endswith(":ro") or kind == "image"
    local, _, mount = rest.removesuffix(":ro").partition(":")
    if kind == "host":
        path = "/" + name.strip("/")
        source = f"host/{path}"
        local = local if sign else path
    local = os.path.abspath(os.path.expanduser(local)) if local else ""
    mount = os.path.normpath(mount or local) if mount or local else ""
    if not mount.startswith("/") or mount == "/":
        raise InputError(f"--volume {text!r}: mount path missing", remedy=_GRAMMAR_REMEDY)
    if not re.fullmatch(r"[^:]+", mount):
        raise InputError(f"--volume {text!r}: the mount path contains a colon", remedy=_GRAMMAR_REMEDY)
    return Volume(source=source, mount=mount, local=local or None, read_only=read_only)


def translate_path(path: str, volumes: Sequence[Volume]) -> str | None:
    """A local path as a path in the pod, by the innermost volume that contains it; None if no volume does.

    If no volume contains the path as written, its symbolic links are resolved.
    """
    return _translate_as_written(path, volumes) or _translate_as_written(os.path.realpath(path), volumes)


def is_read_only(path: str, volumes: Sequence[Volume]) -> bool:
    """Whether the volume that contains a local path is mounted read-only."""
    volume = _find_volume(path, volumes) or _find_volume(os.path.realpath(path), volumes)
    return volume is not None and volume.read_only


def _find_volume(path: str, volumes: Iterable[Volume]) -> Volume | None:
    """The innermost volume that contains a local path."""
    inside = [volume for volume in volumes if volume.local is not None and _is_below(path, volume.local)]
    return max(inside, key=lambda volume: len(volume.local or ""), default=None)


def build_pod_volumes(volumes: Sequence[Volume]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`volumes` of the pod and `volumeMounts` of its container. Volumes with the same source share one pod volume."""
    names: dict[str, str] = {}
    pod_volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for volume in volumes:
        if volume.source not in names:
            names[volume.source] = f"shared-{len(names)}"
            all_read_only = all(other.read_only for other in volumes if other.source == volume.source)
            pod_volumes.append({"name": names[volume.source], **_build_volume_source(volume, read_only=all_read_only)})
        mount: dict[str, Any] = {"name": names[volume.source], "mountPath": volume.mount}
        mounts.append(mount | ({"readOnly": True} if volume.read_only else {}))
    return pod_volumes, mounts


def check_volumes(volumes: Sequence[Volume]) -> None:
    """Raises InputError if two volumes have the same mount path."""
    seen: dict[str, Volume] = {}
    for volume in volumes:
        if (other := seen.setdefault(volume.mount, volume)) is not volume:
            raise InputError(
                f"--volume: {other.source} and {volume.source} both at {volume.mount}",
                remedy="give each its own mount path: --volume SOURCE=LOCAL:MOUNT",
            )


def _translate_as_written(path: str, volumes: Sequence[Volume]) -> str | None:
    volume = _find_volume(path, volumes)
    if volume is None or volume.local is None:
        return None
    relative = os.path.relpath(path, volume.local)
    return volume.mount if relative == "." else str(PurePosixPath(volume.mount, relative))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _build_volume_source(volume: Volume, *, read_only: bool) -> dict[str, Any]:
    kind, _, name = volume.source.partition("/")
    if kind == "pvc":
        return {"persistentVolumeClaim": {"claimName": name} | ({"readOnly": True} if read_only else {})}
    if kind == "host":
        return {"hostPath": {"path": "/" + name.strip("/"), "type": "Directory"}}
    return {"image": {"reference": name, "pullPolicy": "IfNotPresent"}}
