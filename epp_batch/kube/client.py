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

from epp_batch.errors import ClusterError, Unreachable
from epp_batch.kube import credentials
from epp_batch.kube.errors import Forbidden, Gone, NotFound, refusal
from epp_batch.kube.resources import KUEUE, Kueue, Resource

Object = dict[str, Any]
Objects = list[Object]
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
PAGE = 500
CALL_SECONDS = 30.0
QUIET_SECONDS = 90.0
"""A watch without a byte for so long is taken for dead; bookmarks come about once a minute."""
_FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class Listing(NamedTuple):
    """Raw objects of one list, and the version to watch from."""

    items: list[msgspec.Raw]
    version: str


class _ListMeta(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    more: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_lists = msgspec.json.Decoder(_List)


class _Call(NamedTuple):
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    body: Object | None = None
    kind: str = JSON
    accept: str = JSON
    patience: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=CALL_SECONDS)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


class Client:
    """One API server and one identity. Made by `connect`."""

    def __init__(self, login: credentials.Login, kubeconfig: str | None, context: str | None) -> None:
        self._login = login
        self._source = (kubeconfig, context)
        self._session = login.session()
        self._renewing = asyncio.Lock()

    @property
    def server(self) -> str:
        return self._login.server

    @property
    def namespace(self) -> str:
        """The credentials' own namespace."""
        return self._login.namespace

    async def get(self, path: str, **query: str) -> Object:
        """One object."""
        return await self._object(_Call("GET", path, query))

    async def create(self, path: str, body: Object, **query: str) -> Object:
        """POST to a collection; `dryRun="All"` and `fieldValidation="Strict"` only check."""
        return await self._object(_Call("POST", path, query, body))

    async def patch(self, path: str, body: Object, kind: str = MERGE_PATCH) -> Object:
        """Changes one object by a merge patch."""
        return await self._object(_Call("PATCH", path, {}, body, kind))

    async def delete(self, path: str, *, uid: str = "", propagation: str = "Background") -> None:
        """Deletes one object, only the one of `uid` if given; one that is gone already is no error."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._object(_Call("DELETE", path, {}, body))
        except NotFound:
            return

    async def list(self, path: str, *, selector: str = "") -> Objects:
        """All objects of a collection."""
        return [msgspec.json.decode(item) for item in (await self.list_raw(path, selector=selector)).items]

    async def list_raw(self, path: str, *, selector: str = "") -> Listing:
        """All objects undecoded, page by page; starts again once if the first page gets too old meanwhile."""
        try:
            return await self._pages(path, selector)
        except Gone:
            return await self._pages(path, selector)

    async def watch_lines(
        self, path: str, version: str, *, selector: str = "", seconds: int = 240
    ) -> AsyncGenerator[bytes]:
        """Watch events as JSON lines from `version` on; ends when the server ends it, after about `seconds`."""
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        query |= {"resourceVersion": version} | ({"labelSelector": selector} if selector else {})
        patience = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS, sock_read=QUIET_SECONDS)
        async with aclosing(self._lines(_Call("GET", path, query, patience=patience))) as lines:
            async for line in lines:
                yield line

    async def stream(self, path: str, **query: str) -> AsyncGenerator[bytes]:
        """The lines of a text answer as they come: a pod's log, for as long as it lasts."""
        patience = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS)
        async with aclosing(self._lines(_Call("GET", path, query, accept="*/*", patience=patience))) as lines:
            async for line in lines:
                yield line

    async def text(self, path: str, **query: str) -> str:
        """A text answer."""
        async with self._answer(_Call("GET", path, query, accept="*/*")) as answer:
            return await answer.text(errors="replace")

    async def kueue(self) -> Kueue:
        """The version of Kueue's API that the server serves; ClusterError without Kueue."""
        try:
            group = await self.get(f"/apis/{KUEUE}")
        except NotFound as error:
            raise ClusterError(
                f"{self.server}: Kueue is not installed", remedy="install Kueue 0.15 or newer"
            ) from error
        served = [version["version"] for version in group["versions"]]
        return Kueue(next((known for known in ("v1beta2", "v1beta1") if known in served), served[0]))

    async def objects(self, resource: Resource, namespace: str = "", *, selector: str = "") -> Objects:
        """All objects of one kind; none where the API does not have the kind."""
        try:
            return await self.list(resource.path(namespace), selector=selector)
        except NotFound:
            return []

    async def close(self) -> None:
        await self._session.close()

    # -- HTTP ----------------------------------------------------------------------------------------------------

    async def _pages(self, path: str, selector: str) -> Listing:
        items: list[msgspec.Raw] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            async with self._answer(_Call("GET", path, query)) as answer:
                page = _lists.decode(await answer.read())
            items += page.items or []
            if not page.metadata.more:
                return Listing(items, page.metadata.resource_version)
            query["continue"] = page.metadata.more

    async def _object(self, call: _Call) -> Object:
        async with self._answer(call) as answer:
            found: Object = msgspec.json.decode(await answer.read())
            return found

    async def _lines(self, call: _Call) -> AsyncGenerator[bytes]:
        async with self._answer(call) as answer:
            rest = b""
            try:
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                if rest:
                    yield rest
            finally:
                _cut(answer)

    @asynccontextmanager
    async def _answer(self, call: _Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 300; raises what any other stands for."""
        try:
            answer = await self._send(call)
            if answer.status == 401:
                answer.release()
                await self._renew()
                answer = await self._send(call)
            async with answer:
                if answer.status >= 300:
                    retry_after = answer.headers.get("Retry-After", "")
                    raise refusal(call.name, answer.status, await answer.read(), retry_after)
                yield answer
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise ClusterError(f"{self.server}: {error}", remedy="check the kubeconfig's CA") from error
        except _FAILURES as error:
            cause = str(error) or type(error).__name__
            raise Unreachable(f"{self.server} does not answer: {cause}") from error

    async def _send(self, call: _Call) -> aiohttp.ClientResponse:
        headers = {"Accept": call.accept, "User-Agent": "epp-batch"} | await self._login.headers()
        data = None
        if call.body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(call.body), call.kind
        url = self.server + call.path
        return await self._session.request(
            call.method, url, params=call.query, data=data, headers=headers, timeout=call.patience
        )

    async def _renew(self) -> None:
        """Reads the credentials again: a token file has changed, or a login helper gives a new one."""
        async with self._renewing:
            before = await self._login.headers()
            try:
                login = await credentials.load(*self._source)
            except ClusterError as error:
                raise Forbidden(str(error)) from error
            if await login.headers() != before or login.configuration.cert_file != self._login.configuration.cert_file:
                old, self._login, self._session = self._session, login, login.session()
                await old.close()


def _cut(answer: aiohttp.ClientResponse) -> None:
    """Ends a stream that is not read to its end without TLS's goodbye, for which a busy server lets one wait."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


@asynccontextmanager
async def connect(kubeconfig: str | None = None, context: str | None = None) -> AsyncIterator[Client]:
    """A client for the length of a block; no request is made yet."""
    client = Client(await credentials.load(kubeconfig, context), kubeconfig, context)
    try:
        yield client
    finally:
        await client.close()
