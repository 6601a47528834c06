"""The API server, as plain dicts: what the driver, the commands and preflight ask of it.

Every call raises ClusterError or one of its children (epp_batch.kube.errors): Unreachable when there was no answer.
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
REQUEST_TIMEOUT_SECONDS = 30.0
WATCH_IDLE_SECONDS = 90.0
"""A watch without a byte for so long is taken for dead; bookmarks come about once a minute."""
_TRANSPORT_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class RawList(NamedTuple):
    """Raw objects of one list, and the version to watch from."""

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
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    body: KubeObject | None = None
    content_type: str = JSON_TYPE
    accept: str = JSON_TYPE
    timeout: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)

    @property
    def method_and_path(self) -> str:
        return f"{self.method} {self.path}"


class ApiClient:
    """One API server and one identity. Made by `connect`."""

    def __init__(self, login: credentials.Credentials, kubeconfig: str | None, context: str | None) -> None:
        self._credentials = login
        self._credentials_source = (kubeconfig, context)
        self._session = login.create_session()
        self._reload_lock = asyncio.Lock()

    @property
    def server(self) -> str:
        return self._credentials.server

    @property
    def namespace(self) -> str:
        """The credentials' own namespace."""
        return self._credentials.namespace

    async def get(self, path: str, **query: str) -> KubeObject:
        """One object."""
        return await self._request_object(_ApiRequest("GET", path, query))

    async def create(self, path: str, body: KubeObject, **query: str) -> KubeObject:
        """POST to a collection; `dryRun="All"` and `fieldValidation="Strict"` only check."""
        return await self._request_object(_ApiRequest("POST", path, query, body))

    async def patch(self, path: str, body: KubeObject, kind: str = MERGE_PATCH_TYPE) -> KubeObject:
        """Changes one object by a merge patch."""
        return await self._request_object(_ApiRequest("PATCH", path, {}, body, kind))

    async def delete(self, path: str, *, uid: str = "", propagation: str = "Background") -> None:
        """Deletes one object, only the one of `uid` if given; one that is gone already is no error."""
        body: KubeObject = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._request_object(_ApiRequest("DELETE", path, {}, body))
        except NotFound:
            return

    async def list(self, path: str, *, selector: str = "") -> KubeObjects:
        """All objects of a collection."""
        return [msgspec.json.decode(item) for item in (await self.list_raw(path, selector=selector)).items]

    async def list_raw(self, path: str, *, selector: str = "") -> RawList:
        """All objects undecoded, page by page; starts again once if the first page gets too old meanwhile."""
        try:
            return await self._list_pages(path, selector)
        except Gone:
            return await self._list_pages(path, selector)

    async def watch_lines(
        self, path: str, version: str, *, selector: str = "", seconds: int = 240
    ) -> AsyncGenerator[bytes]:
        """Watch events as JSON lines from `version` on; ends when the server ends it, after about `seconds`."""
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        query |= {"resourceVersion": version} | ({"labelSelector": selector} if selector else {})
        patience = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_SECONDS, sock_read=WATCH_IDLE_SECONDS)
        async with aclosing(self._response_lines(_ApiRequest("GET", path, query, timeout=patience))) as lines:
            async for line in lines:
                yield line

    async def stream_lines(self, path: str, **query: str) -> AsyncGenerator[bytes]:
        """The lines of a text answer as they come: a pod's log, for as long as it lasts."""
        patience = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_SECONDS)
        async with aclosing(
            self._response_lines(_ApiRequest("GET", path, query, accept="*/*", timeout=patience))
        ) as lines:
            async for line in lines:
                yield line

    async def read_text(self, path: str, **query: str) -> str:
        """A text answer."""
        async with self._open_response(_ApiRequest("GET", path, query, accept="*/*")) as answer:
            return await answer.text(errors="replace")

    async def discover_kueue(self) -> KueueResources:
        """The version of Kueue's API that the server serves; ClusterError without Kueue."""
        try:
            group = await self.get(f"/apis/{KUEUE_GROUP}")
        except NotFound as error:
            raise ClusterError(
                f"{self.server}: Kueue is not installed", remedy="install Kueue 0.15 or newer"
            ) from error
        served = [version["version"] for version in group["versions"]]
        return KueueResources(next((known for known in ("v1beta2", "v1beta1") if known in served), served[0]))

    async def list_if_served(self, resource: Resource, namespace: str = "", *, selector: str = "") -> KubeObjects:
        """All objects of one kind; none where the API does not have the kind."""
        try:
            return await self.list(resource.path(namespace), selector=selector)
        except NotFound:
            return []

    async def close(self) -> None:
        await self._session.close()

    # -- HTTP ----------------------------------------------------------------------------------------------------

    async def _list_pages(self, path: str, selector: str) -> RawList:
        items: list[msgspec.Raw] = []
        query = {"limit": str(LIST_LIMIT)} | ({"labelSelector": selector} if selector else {})
        while True:
            async with self._open_response(_ApiRequest("GET", path, query)) as answer:
                page = _list_decoder.decode(await answer.read())
            items += page.items or []
            if not page.metadata.continue_token:
                return RawList(items, page.metadata.resource_version)
            query["continue"] = page.metadata.continue_token

    async def _request_object(self, call: _ApiRequest) -> KubeObject:
        async with self._open_response(call) as answer:
            found: KubeObject = msgspec.json.decode(await answer.read())
            return found

    async def _response_lines(self, call: _ApiRequest) -> AsyncGenerator[bytes]:
        async with self._open_response(call) as answer:
            rest = b""
            try:
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                if rest:
                    yield rest
            finally:
                _abort_response(answer)

    @asynccontextmanager
    async def _open_response(self, call: _ApiRequest) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 300; raises what any other stands for."""
        try:
            answer = await self._send_request(call)
            if answer.status == 401:
                answer.release()
                await self._reload_credentials()
                answer = await self._send_request(call)
            async with answer:
                if answer.status >= 300:
                    retry_after = answer.headers.get("Retry-After", "")
                    raise error_from_response(call.method_and_path, answer.status, await answer.read(), retry_after)
                yield answer
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise ClusterError(f"{self.server}: {error}", remedy="check the kubeconfig's CA") from error
        except _TRANSPORT_ERRORS as error:
            cause = str(error) or type(error).__name__
            raise ApiServerUnreachable(f"{self.server} does not answer: {cause}") from error

    async def _send_request(self, call: _ApiRequest) -> aiohttp.ClientResponse:
        headers = {"Accept": call.accept, "User-Agent": "epp-batch"} | await self._credentials.auth_headers()
        data = None
        if call.body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(call.body), call.content_type
        url = self.server + call.path
        return await self._session.request(
            call.method, url, params=call.query, data=data, headers=headers, timeout=call.timeout
        )

    async def _reload_credentials(self) -> None:
        """Reads the credentials again: a token file has changed, or a login helper gives a new one."""
        async with self._reload_lock:
            before = await self._credentials.auth_headers()
            try:
                login = await credentials.load_credentials(*self._credentials_source)
            except ClusterError as error:
                raise Forbidden(str(error)) from error
            if (
                await login.auth_headers() != before
                or login.configuration.cert_file != self._credentials.configuration.cert_file
            ):
                old, self._credentials, self._session = self._session, login, login.create_session()
                await old.close()


def _abort_response(answer: aiohttp.ClientResponse) -> None:
    """Ends a stream that is not read to its end without TLS's goodbye, for which a busy server lets one wait."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


@asynccontextmanager
async def open_client(kubeconfig: str | None = None, context: str | None = None) -> AsyncIterator[ApiClient]:
    """A client for the length of a block; no request is made yet."""
    client = ApiClient(await credentials.load_credentials(kubeconfig, context), kubeconfig, context)
    try:
        yield client
    finally:
        await client.close()
