"""An API server in memory with the methods of ApiClient that the controller uses."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from epp_batch.kube.client import KubeObject, RawList
from epp_batch.kube.errors import Conflict, NotFound
from epp_batch.kube.resources import KueueResources


class FakeApi:
    """Stores objects by path; `requests` are the writes in order, as `POST <path>`.

    A watch delivers what `send_event` is given, and no more.
    """

    def __init__(self) -> None:
        self.objects: dict[str, KubeObject] = {}
        self.requests: list[str] = []
        self._uids = itertools.count(1)
        self._events: defaultdict[str, asyncio.Queue[bytes]] = defaultdict(asyncio.Queue)

    async def discover_kueue(self) -> KueueResources:
        return KueueResources("v1beta2")

    async def get(self, path: str) -> KubeObject:
        if path not in self.objects:
            raise NotFound(path)
        return self.objects[path]

    async def create(self, path: str, body: KubeObject, **query: str) -> KubeObject:
        key = f"{path}/{body['metadata']['name']}"
        if key in self.objects:
            raise Conflict(key)
        if "dryRun" in query:
            return body
        self.requests.append(f"POST {key}")
        metadata = {**body["metadata"], "uid": f"uid-{next(self._uids)}"}
        self.objects[key] = {**body, "metadata": metadata}
        return self.objects[key]

    async def patch(self, path: str, body: KubeObject) -> KubeObject:
        found = await self.get(path)
        self.requests.append(f"PATCH {path}")
        found.update(body)
        return found

    async def delete(self, path: str, *, uid: str = "") -> None:
        if path in self.objects and uid and self.objects[path]["metadata"]["uid"] != uid:
            raise Conflict(path)
        self.requests.append(f"DELETE {path}")
        self.objects.pop(path, None)

    async def list_raw(self, path: str, *, selector: str = "") -> RawList:
        name, _, value = selector.partition("=")
        items = [
            found
            for key, found in self.objects.items()
            if key.rpartition("/")[0] == path
            and (not selector or found["metadata"].get("labels", {}).get(name) == value)
        ]
        return RawList([msgspec.Raw(msgspec.json.encode(item)) for item in items], "1")

    async def watch_lines(self, path: str, version: str, *, selector: str = "") -> AsyncGenerator[bytes]:
        while True:
            yield await self._events[path].get()

    async def read_text(self, path: str, **query: str) -> str:
        raise NotFound(path)

    def send_event(self, path: str, kind: str, item: KubeObject) -> None:
        """Sends a watch event of the collection at `path`."""
        self._events[path].put_nowait(msgspec.json.encode({"type": kind, "object": item}))

    def set_status(self, path: str, **status: Any) -> None:
        self.objects[path]["status"] = status
