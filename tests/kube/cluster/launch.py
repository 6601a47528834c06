"""Turns a container of a pod into the process to start."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.kube.cluster.client import KubeApi, Object
from tests.kube.cluster.containers import (
    Mount,
    container_command,
    expand_variables,
    resolve_field_ref,
    resolve_resource_field_ref,
    rewrite_paths,
)
from tests.kube.cluster.volumes import MissingSource, Volumes, read_keys

DEFAULT_TERMINATION_PATH = "/dev/termination-log"


class ProcessLaunch(NamedTuple):
    """A process to start: argument vector, environment, working directory, files."""

    argv: list[str]
    environment: dict[str, str]
    folder: str
    termination_log: Path


class Launcher:
    """Prepares the containers of one pod."""

    def __init__(
        self,
        api: KubeApi,
        pod: Object,
        folder: Path,
        volumes: Volumes,
        *,
        entrypoints: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
    ) -> None:
        """`folder` is the pod's own; `pod` carries the status that the agent gives it (podIP, hostIP)."""
        self._api = api
        self._pod = pod
        self._folder = folder
        self._volumes = volumes
        self._entrypoints = entrypoints
        self._environment = environment

    async def prepare_container(self, container: Object, devices: Sequence[str]) -> ProcessLaunch:
        """Prepares the process. ApiError or MissingSource for a missing source, UnknownImage without an entry point."""
        program, given = container_command(container, self._entrypoints)
        message = self._folder / f"{container['name']}.termination"
        message.write_bytes(b"")
        mounts = await self._volumes.mount_container(container)
        mounts.append(Mount(container.get("terminationMessagePath", DEFAULT_TERMINATION_PATH), str(message)))
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "HOSTNAME": self._pod["metadata"]["name"],
            "NVIDIA_VISIBLE_DEVICES": ",".join(devices) or "void",
            "TERMINATION_LOG": str(message),
            **self._environment,
        }
        await self._read_env_from(container, environment)
        await self._read_env(container, mounts, environment)
        argv = [*program, *(rewrite_paths(expand_variables(argument, environment), mounts) for argument in given)]
        folder = container.get("workingDir")
        return ProcessLaunch(argv, environment, rewrite_paths(folder, mounts) if folder else str(self._folder), message)

    async def _read_env_from(self, container: Object, environment: dict[str, str]) -> None:
        for source in container.get("envFrom", []):
            kind = "configMap" if "configMapRef" in source else "secret"
            reference = source[f"{kind}Ref"]
            for key, value in (await self._read_keys(kind, reference)).items():
                environment[source.get("prefix", "") + key] = value

    async def _read_env(self, container: Object, mounts: list[Mount], environment: dict[str, str]) -> None:
        for entry in container.get("env", []):
            origin = entry.get("valueFrom")
            if origin is None:
                environment[entry["name"]] = rewrite_paths(
                    expand_variables(entry.get("value", ""), environment), mounts
                )
            elif "fieldRef" in origin:
                environment[entry["name"]] = resolve_field_ref(self._pod, origin["fieldRef"]["fieldPath"])
            elif "resourceFieldRef" in origin:
                environment[entry["name"]] = resolve_resource_field_ref(container, origin["resourceFieldRef"])
            else:
                kind = "configMap" if "configMapKeyRef" in origin else "secret"
                reference = origin[f"{kind}KeyRef"]
                values = await self._read_keys(kind, reference)
                if reference["key"] in values:
                    environment[entry["name"]] = values[reference["key"]]
                elif not reference.get("optional"):
                    raise MissingSource(f"couldn't find key {reference['key']} in {kind} {reference['name']}")

    async def _read_keys(self, kind: str, reference: Object) -> dict[str, str]:
        values = await read_keys(self._api, self._pod["metadata"]["namespace"], kind, reference["name"])
        return {key: value.decode() for key, value in values.items()}
