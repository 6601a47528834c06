"""A pod's volumes as folders of this machine."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.kube.cluster.client import CONFIG_MAPS, SECRETS, VOLUME_CLAIMS, VOLUMES, KubeApi, Object
from tests.kube.cluster.containers import Mount, resolve_field_ref


class MissingSource(Exception):
    """A folder, or a key of a config map or secret, that a pod refers to does not exist."""


async def read_keys(api: KubeApi, namespace: str, kind: str, name: str) -> dict[str, bytes]:
    """Contents of a config map (`kind` "configMap") or a secret ("secret"); ApiError 404 if it does not exist."""
    found = await api.get(CONFIG_MAPS if kind == "configMap" else SECRETS, name, namespace)
    plain = {key: text.encode() for key, text in (found.get("data") or {}).items()}
    encoded = (found.get("data") if kind == "secret" else found.get("binaryData")) or {}
    return {**(plain if kind == "configMap" else {}), **{key: base64.b64decode(text) for key, text in encoded.items()}}


class Volumes:
    """The volumes of one pod; folders are made as containers mount them."""

    def __init__(self, api: KubeApi, pod: Object, folder: Path, claims: Path) -> None:
        """`folder` is the pod's own; `claims` has the folders of claims whose volume has no path; they outlive pods."""
        self._api = api
        self._pod = pod
        self._namespace: str = pod["metadata"]["namespace"]
        self._folder = folder
        self._claims = claims

    async def mount_container(self, container: Object) -> list[Mount]:
        """The container's mounts. ApiError or MissingSource if a volume refers to something that does not exist."""
        volumes = {volume["name"]: volume for volume in self._pod["spec"].get("volumes", [])}
        mounts = []
        for volume_mount in container.get("volumeMounts", []):
            folder = await self._provide_volume(volumes[volume_mount["name"]])
            source = folder / str(volume_mount.get("subPath", ""))
            if not source.exists():
                source.mkdir(parents=True)
            mounts.append(Mount(volume_mount["mountPath"], str(source)))
        return mounts

    async def _provide_volume(self, volume: Object) -> Path:
        if "hostPath" in volume:
            given = Path(volume["hostPath"]["path"])
            if volume["hostPath"].get("type") == "Directory" and not given.is_dir():
                raise MissingSource(f"hostPath type check failed: {given} is not a directory")
            return given
        if "persistentVolumeClaim" in volume:
            name: str = volume["persistentVolumeClaim"]["claimName"]
            return await self._claim_folder(name)
        folder = self._folder / "volumes" / str(volume["name"])
        folder.mkdir(parents=True, exist_ok=True)
        sources = volume["projected"]["sources"] if "projected" in volume else [volume]
        for source in sources:
            for path, data in (await self._list_source_files(source)).items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
        return folder

    async def _claim_folder(self, name: str) -> Path:
        claim = await self._api.get(VOLUME_CLAIMS, name, self._namespace)
        if bound := claim["spec"].get("volumeName"):
            volume = (await self._api.get(VOLUMES, bound))["spec"]
            if source := volume.get("hostPath") or volume.get("local"):
                return Path(source["path"])
        return self._claims / self._namespace / name

    async def _list_source_files(self, source: Object) -> dict[str, bytes]:
        """Files of a config map, secret or downward API source; none for an emptyDir."""
        for kind in ("configMap", "secret"):
            if kind in source:
                name = source[kind].get("secretName") or source[kind].get("name")
                data = await read_keys(self._api, self._namespace, kind, name)
                items = source[kind].get("items")
                if missing := [item["key"] for item in items or () if item["key"] not in data]:
                    raise MissingSource(f"{kind} {name} references non-existent config key: {', '.join(missing)}")
                return {item["path"]: data[item["key"]] for item in items} if items else data
        items = source.get("downwardAPI", {}).get("items", [])
        return {
            i["path"]: resolve_field_ref(self._pod, i["fieldRef"]["fieldPath"]).encode()
            for i in items
            if "fieldRef" in i
        }
