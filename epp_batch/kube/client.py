"""HTTP client of one API server. Objects are plain dicts, paths come from `resources`.

Every request raises ClusterError or a subclass (`errors`): ApiServerUnreachable if there was no response.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec

from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube import credentials
from epp_batch.kube.errors import Forbidden, Gone, NotFound, error_from_response
from epp_batch.kube.resources import KUEUE_GROUP, KueueResources, Resource

KubeObject = dict[str, Any]
KubeObjects = list[KubeObject]
JSON_TYPE = "application/json"
MERGE_PATCH_TYPE = "application/merge-patch+json"
LIST_LIMIT = 500
"""Objects per page of a list, as in client-go's pager."""
REQUEST_TIMEOUT_SECONDS = 30.0
WATCH_IDLE_SECONDS = 90.0
"""A watch that sends no byte for this long is treated as dead: the server sends a bookmark about once a minute."""
_TRANSPORT_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class RawList(NamedTuple):
    """Undecoded objects of one list, and the resourceVersion from which a watch continues it."""

    items: list[msgspec.Raw]
    resource_version: str


class _ListMeta(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    continue_token: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_list_decoder = msgspec.json.Decoder(_List)


class _ApiRequest(NamedTuple):
    """Method, path, query, body and time limit of one HTTP request."""

    method: str
    path: str
    query: dict[str, str]
    body: KubeObject | None = None
    content_type: str = JSON_TYPE
    accept: str = JSON_TYPE
    timeout: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)


class ApiClient:
    """A session with one API server under one identity. Created by `open_client`; safe for concurrent requests."""

    def __init__(self, login: credentials.Credentials, kubeconfig: str | None, context: str | None) -> None:
        self._credentials = login
        self._credentials_source = (kubeconfig, context)
        self._session = login.create_session()
        self._reload_lock = asyncio.Lock()

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._credentials.server

    @property
    def namespace(self) -> str:
        """Namespace of the kubeconfig's context, or of the service account."""
        return self._credentials.namespace

    async def get(self, path: str, **query: str) -> KubeObject:
        """One object."""
        return await self._request_object(_ApiRequest("GET", path, query))

    async def create(self, path: str, body: KubeObject, **query: str) -> KubeObject:
        """POSTs to a collection. `dryRun="All"` runs validation and admission without storing the object."""
        return await self._request_object(_ApiRequest("POST", path, query, body))

    async def patch(self, path: str, body: KubeObject, content_type: str = MERGE_PATCH_TYPE) -> KubeObject:
        """Patches one object, by default with a JSON merge patch (RFC 7396)."""
        return await self._request_object(_ApiRequest("PATCH", path, {}, body, content_type))

    async def delete(self, path: str, *, uid: str = "", propagation: str = "Background") -> None:
        """Deletes one object; no error if it does not exist. With `uid`, Conflict if another object has the name."""
        body: KubeObject = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._request_object(_ApiRequest("DELETE", path, {}, body))
        except NotFound:
            return

    async def list(self, path: str, *, selector: str = "") -> KubeObjects:
        """All objects of a collection that match the label selector."""
        return [msgspec.json.decode(item) for item in (await self.list_raw(path, selector=selector)).items]

    async def list_raw(self, path: str, *, selector: str = "") -> RawList:
        """All objects undecoded, page by page. Starts again once if the continue token expires between pages."""
        try:
            return await self._list_pages(path, selector)
        except Gone:
            return await self._list_pages(path, selector)

    async def list_if_served(self, resource: Resource, namespace: str = "", *, selector: str = "") -> KubeObjects:
        """All objects of a resource; an empty list if the server does not serve the resource."""
        try:
            return await self.list(resource.path(namespace), selector=selector)
        except NotFound:
            return []

    async def watch_lines(
        self, path: str, version: str, *, selector: str = "", seconds: int = 240
    ) -> AsyncGenerator[bytes]:
        """Watch events after resourceVersion `version`, undecoded; ends after about `seconds` (timeoutSeconds)."""
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        query |= {"resourceVersion": version} | ({"labelSelector": selector} if selector else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_SECONDS, sock_read=WATCH_IDLE_SECONDS)
        async with aclosing(self._response_lines(_ApiRequest("GET", path, query, timeout=timeout))) as lines:
            async for line in lines:
                yield line

    async def stream_lines(self, path: str, **query: str) -> AsyncGenerator[bytes]:
        """Lines of a text response as they arrive, without a time limit: a pod's log."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_SECONDS)
        request = _ApiRequest("GET", path, query, accept="*/*", timeout=timeout)
        async with aclosing(self._response_lines(request)) as lines:
            async for line in lines:
                yield line

    async def read_text(self, path: str, **query: str) -> str:
        """A whole text response."""
        async with self._open_response(_ApiRequest("GET", path, query, accept="*/*")) as response:
            return await response.text(errors="replace")

    async def discover_kueue(self) -> KueueResources:
        """Kueue's resources in the newest version that both sides know; ClusterError if Kueue is not installed."""
        try:
            group = await self.get(f"/apis/{KUEUE_GROUP}")
        except NotFound as error:
            raise ClusterError(
                f"{self.server}: Kueue is not installed", remedy="install Kueue 0.17 or newer"
            ) from error
        served = [version["version"] for version in group["versions"]]
        return KueueResources(next((known for known in ("v1beta2", "v1beta1") if known in served), served[0]))

    async def close(self) -> None:
        await self._session.close()

    async def _list_pages(self, path: str, selector: str) -> RawList:
        items: list[msgspec.Raw] = []
        query = {"limit": str(LIST_LIMIT)} | ({"labelSelector": selector} if selector else {})
        while True:
            async with self._open_response(_ApiRequest("GET", path, query)) as response:
                page = _list_decoder.decode(await response.read())
            items += page.items or []
            if not page.metadata.continue_token:
                return RawList(items, page.metadata.resource_version)
            query["continue"] = page.metadata.continue_token

    async def _request_object(self, request: _ApiRequest) -> KubeObject:
        async with self._open_response(request) as response:
            decoded: KubeObject = msgspec.json.decode(await response.read())
            return decoded

    async def _response_lines(self, request: _ApiRequest) -> AsyncGenerator[bytes]:
        async with self._open_response(request) as response:
            rest = b""
            try:
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                if rest:
                    yield rest
            finally:
                # Abort instead of closing: TLS close_notify waits for the peer, which a busy server answers late.
                if response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.abort()

    @asynccontextmanager
    async def _open_response(self, request: _ApiRequest) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with a status below 300; raises `error_from_response` for any other.

        After 401 the request is sent once more, with reloaded credentials.
        """
        try:
            response = await self._send_request(request)
            if response.status == 401:
                response.release()
                await self._reload_credentials()
                response = await self._send_request(request)
            async with response:
                if response.status >= 300:
                    retry_after = response.headers.get("Retry-After", "")
                    name = f"{request.method} {request.path}"
                    raise error_from_response(name, response.status, await response.read(), retry_after)
                yield response
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise ClusterError(f"{self.server}: {error}", remedy="check the kubeconfig's CA") from error
        except _TRANSPORT_ERRORS as error:
            cause = str(error) or type(error).__name__
            raise ApiServerUnreachable(f"{self.server} does not answer: {cause}") from error

    async def _send_request(self, request: _ApiRequest) -> aiohttp.ClientResponse:
        headers = {"Accept": request.accept, "User-Agent": "epp-batch"} | await self._credentials.auth_headers()
        data = None
        if request.body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(request.body), request.content_type
        url = self.server + request.path
        return await self._session.request(
            request.method, url, params=request.query, data=data, headers=headers, timeout=request.timeout
        )

    async def _reload_credentials(self) -> None:
        """Loads the credentials again after a 401: the token file has changed, or the exec plugin issues a new token.

        Reloads run one at a time; of several requests that got a 401, the first replaces the session.
        """
        async with self._reload_lock:
            before = await self._credentials.auth_headers()
            try:
                login = await credentials.load_credentials(*self._credentials_source)
            except ClusterError as error:
                raise Forbidden(str(error)) from error
            same_certificate = login.configuration.cert_file == self._credentials.configuration.cert_file
            if await login.auth_headers() != before or not same_certificate:
                old, self._credentials, self._session = self._session, login, login.create_session()
                await old.close()


@asynccontextmanager
async def open_client(kubeconfig: str | None = None, context: str | None = None) -> AsyncIterator[ApiClient]:
    """A client for the duration of a `with` block. Loads the credentials; sends no request."""
    client = ApiClient(await credentials.load_credentials(kubeconfig, context), kubeconfig, context)
    try:
        yield client
    finally:
        await client.close()
