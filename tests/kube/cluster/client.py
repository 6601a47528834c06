"""A small asynchronous client of the Kubernetes API for tests and the node agent."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import yaml

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused a request: `status` is the HTTP status, `reason` the Status object's reason."""

    def __init__(self, call: str, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{call}: {status} {reason}: {message}")


class Resource(NamedTuple):
    """A resource of the API: its group, version and plural name."""

    version: str  # "v1", "batch/v1"
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "") -> str:
        """The collection's path, all namespaces without `namespace`; one object's with `name`."""
        parts = ["/apis" if "/" in self.version else "/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *([name] if name else [])])


PODS = Resource("v1", "pods")
NODES = Resource("v1", "nodes", namespaced=False)
NAMESPACES = Resource("v1", "namespaces", namespaced=False)
SECRETS = Resource("v1", "secrets")
CONFIG_MAPS = Resource("v1", "configmaps")
SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts")
VOLUMES = Resource("v1", "persistentvolumes", namespaced=False)
VOLUME_CLAIMS = Resource("v1", "persistentvolumeclaims")
JOBS = Resource("batch/v1", "jobs")
DEPLOYMENTS = Resource("apps/v1", "deployments")
RESOURCE_CLAIMS = Resource("resource.k8s.io/v1", "resourceclaims")
RESOURCE_SLICES = Resource("resource.k8s.io/v1", "resourceslices", namespaced=False)
DEVICE_CLASSES = Resource("resource.k8s.io/v1", "deviceclasses", namespaced=False)
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)
API_SERVICES = Resource("apiregistration.k8s.io/v1", "apiservices", namespaced=False)
WORKLOADS = Resource("kueue.x-k8s.io/v1beta2", "workloads")
LOCAL_QUEUES = Resource("kueue.x-k8s.io/v1beta2", "localqueues")
CLUSTER_QUEUES = Resource("kueue.x-k8s.io/v1beta2", "clusterqueues", namespaced=False)
FLAVORS = Resource("kueue.x-k8s.io/v1beta2", "resourceflavors", namespaced=False)
PRIORITIES = Resource("kueue.x-k8s.io/v1beta2", "workloadpriorityclasses", namespaced=False)


class KubeApi:
    """One identity's connection to the API server; an asynchronous context manager, bound to its event loop."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = cluster["server"]
        self._token = user["token"]
        self._ssl = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._kinds: dict[tuple[str, str], Resource] = {}

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            self._server,
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=aiohttp.ClientTimeout(total=60),
            connector=aiohttp.TCPConnector(ssl=self._ssl, limit=0),
            read_bufsize=1 << 20,
        )
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def request(self, method: str, path: str, body: Any = None, *, content_type: str = JSON, **query: str) -> Any:
        """Sends one request; returns decoded JSON, or text if the answer is not JSON.

        Raises ApiError if refused, aiohttp.ClientError if there is no server, TimeoutError after a minute.
        """
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._http.request(method, path, data=data, params=query, headers=headers) as answer:
            raw = await answer.read()
            if answer.status >= 300:
                raise _build_api_error(f"{method} {path}", answer.status, raw)
            return json.loads(raw) if answer.content_type == JSON else raw.decode(errors="replace")

    async def get(self, kind: Resource, name: str, namespace: str = "") -> Object:
        """Returns one object; ApiError 404 if it does not exist."""
        found: Object = await self.request("GET", kind.path(namespace, name))
        return found

    async def list(self, kind: Resource, namespace: str = "", **query: str) -> list[Object]:
        """Lists a collection, narrowed by `labelSelector` and `fieldSelector`."""
        found: list[Object] = (await self.request("GET", kind.path(namespace), **query))["items"]
        return found

    async def create(self, document: Object, **query: str) -> Object:
        """POSTs a document to its collection (`dryRun="All"` validates only)."""
        namespace = document["metadata"].get("namespace", "default")
        created: Object = await self.request(
            "POST", (await self.find_resource(document)).path(namespace), document, **query
        )
        return created

    async def apply(self, *documents: Object) -> None:
        """Applies documents one after the other (server-side apply)."""
        for document in documents:
            metadata = document["metadata"]
            path = (await self.find_resource(document)).path(metadata.get("namespace", "default"), metadata["name"])
            await self.request("PATCH", path, document, content_type=APPLY, fieldManager="tests", force="true")

    async def patch(
        self, kind: Resource, name: str, change: Mapping[str, Any], namespace: str = "", *, subresource: str = ""
    ) -> Object:
        """A JSON merge patch of an object or of its subresource."""
        path = kind.path(namespace, name) + (f"/{subresource}" if subresource else "")
        changed: Object = await self.request("PATCH", path, dict(change), content_type=MERGE)
        return changed

    async def delete(self, kind: Resource, name: str, namespace: str = "", **query: str) -> None:
        """Deletes an object; a missing one is not an error."""
        try:
            await self.request("DELETE", kind.path(namespace, name), **query)
        except ApiError as error:
            if error.status != 404:
                raise

    async def logs(self, namespace: str, pod: str, **query: str) -> str:
        """Reads a pod's log through the API server; parameters: `tailLines`, `container`, `previous` …"""
        text: str = await self.request("GET", PODS.path(namespace, pod) + "/log", **query)
        return text

    async def find_resource(self, document: Object) -> Resource:
        """Returns the resource of a document, from the server's discovery API."""
        key = (document["apiVersion"], document["kind"])
        if key not in self._kinds:
            base = f"/apis/{key[0]}" if "/" in key[0] else f"/api/{key[0]}"
            resources = (await self.request("GET", base))["resources"]
            found = {r["kind"]: r for r in resources if "/" not in r["name"]}
            if key[1] not in found:
                raise ApiError(f"kind {key[1]}", 404, "NotFound", f"{key[0]} has no such kind")
            self._kinds[key] = Resource(key[0], found[key[1]]["name"], found[key[1]]["namespaced"])
        return self._kinds[key]

    async def watch(
        self, kind: Resource, namespace: str = "", **query: str
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """Lists, then watches, until the stream ends: (ADDED, MODIFIED or DELETED, object); (SYNCED, {}) ends the list.

        After an end (timeout, outage, 410 Gone) call it again: what the new list lacks was deleted in between.
        """
        path = kind.path(namespace)
        listed = await self.request("GET", path, **query)
        for item in listed["items"]:
            yield "ADDED", item
        yield "SYNCED", {}
        watch_query = {**query, "watch": "1", "allowWatchBookmarks": "true"}
        watch_query["resourceVersion"] = listed["metadata"]["resourceVersion"]
        no_timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self._http.get(path, params=watch_query, timeout=no_timeout) as answer:
            if answer.status >= 300:
                raise _build_api_error(f"watch {path}", answer.status, await answer.read())
            try:
                async for line in _read_lines(answer.content):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]
            finally:
                _abort_connection(answer)


def _abort_connection(answer: aiohttp.ClientResponse) -> None:
    """Aborts a watch without TLS close_notify: if the loop closed first, the connection would stay open."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


async def _read_lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yields lines of any length: a line may hold a whole pod, which exceeds StreamReader's limit."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line


def _build_api_error(call: str, status: int, raw: bytes) -> ApiError:
    try:
        refusal = json.loads(raw)
        return ApiError(call, status, refusal.get("reason", ""), refusal.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(call, status, "", raw.decode(errors="replace")[:600])
