"""A local copy of one collection, kept current by list and watch: client-go's Reflector and Store.

`Store` applies lists and watch events and does no I/O; `Reflector` fetches them. A watch that ends is resumed at the
last resourceVersion; 410 Gone causes a new list. Changes that an outage hid appear as differences of that list.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Generic, NamedTuple, TypeVar

import msgspec

from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.errors import ApiStatus, Gone, TooManyRequests, error_from_response
from epp_batch.kube.objects import HasMetadata, ObjectMeta

T = TypeVar("T", bound=HasMetadata)
INITIAL_BACKOFF, MAX_BACKOFF = 0.2, 10.0
"""Seconds between retries; doubled each time."""


class ObjectChange(NamedTuple, Generic[T]):
    """One object before and after a change. `old` is None for an added object, `new` for a deleted one."""

    old: T | None
    new: T | None


class _WatchEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: ObjectMeta


_event_decoder = msgspec.json.Decoder(_WatchEvent)
_bookmark_decoder = msgspec.json.Decoder(_Bookmark)
_status_decoder = msgspec.json.Decoder(ApiStatus)


class Store(Generic[T]):
    """Objects of one namespace by name, and the resourceVersion that they are current at.

    Objects that `accepts` rejects are treated as if they did not exist.
    """

    def __init__(self, kind: type[T], accepts: Callable[[T], bool] = lambda _: True) -> None:
        self.objects: dict[str, T] = {}
        self.resource_version = ""
        self._inserted: dict[str, T] = {}
        self._decoder = msgspec.json.Decoder(kind)
        self._accepts = accepts

    def replace(self, items: Iterable[bytes], version: str) -> list[ObjectChange[T]]:
        """Replaces the content by a list at resourceVersion `version`; returns the differences, deletions first.

        An object inserted by `insert` after the list was taken is kept.
        """
        newer = {
            name: item
            for name, item in self._inserted.items()
            if _version_number(item.metadata.resource_version) > _version_number(version)
        }
        listed = {item.metadata.name: item for item in map(self._decoder.decode, items) if self._accepts(item)} | newer
        deleted: list[ObjectChange[T]] = [
            ObjectChange(old, None) for name, old in self.objects.items() if name not in listed
        ]
        others = [change for item in listed.values() for change in self._diff(item)]
        self.objects, self.resource_version, self._inserted = listed, version, newer
        return deleted + others

    def insert(self, raw: bytes, on_change: Callable[[ObjectChange[T]], None]) -> None:
        """Adds the response to our own write, before the watch delivers it (as client-go's MutationCache)."""
        item = self._decoder.decode(raw)
        known = self.objects.get(item.metadata.name)
        version = _version_number(item.metadata.resource_version)
        if known is None or _version_number(known.metadata.resource_version) < version:
            self._inserted[item.metadata.name] = item
            for change in self._upsert(item):
                on_change(change)

    def apply_watch_event(self, line: bytes) -> list[ObjectChange[T]]:
        """Applies one watch event (a JSON line). An ERROR event raises its error: Gone if the version has expired."""
        event = _event_decoder.decode(line)
        if event.type == "ERROR":
            status = _status_decoder.decode(event.object)
            raise error_from_response("watch", status.code or 500, bytes(event.object))
        if event.type == "BOOKMARK":
            self.resource_version = _bookmark_decoder.decode(event.object).metadata.resource_version
            return []
        item = self._decoder.decode(event.object)
        self.resource_version = item.metadata.resource_version
        self._inserted.pop(item.metadata.name, None)
        return self._delete(item) if event.type == "DELETED" else self._upsert(item)

    def _upsert(self, item: T) -> list[ObjectChange[T]]:
        if not self._accepts(item):
            return self._delete(item)
        changes = self._diff(item)
        self.objects[item.metadata.name] = item
        return changes

    def _delete(self, item: T) -> list[ObjectChange[T]]:
        old = self.objects.pop(item.metadata.name, None)
        return [] if old is None else [ObjectChange(old, None)]

    def _diff(self, item: T) -> list[ObjectChange[T]]:
        """Changes from the stored object to `item`. A different uid means deleted and created again."""
        old = self.objects.get(item.metadata.name)
        if old is None or old.metadata.uid == item.metadata.uid:
            same = old is not None and old.metadata.resource_version == item.metadata.resource_version
            return [] if same else [ObjectChange(old, item)]
        return [ObjectChange(old, None), ObjectChange(None, item)]


class Reflector(Generic[T]):
    """Keeps a `Store` equal to one collection of the API server until cancelled. The store's only writer but `insert`.

    `on_change` is called for each change in the order of observation. `on_error` is called with a message while the
    server does not answer, and with an empty one when it answers again. `synced` is set after the first list.
    An error that a retry does not resolve (403, 404) ends `run` with that error.
    """

    def __init__(
        self,
        client: ApiClient,
        path: str,
        store: Store[T],
        *,
        on_change: Callable[[ObjectChange[T]], None],
        on_error: Callable[[str], None],
        rng: random.Random,
        selector: str = "",
    ) -> None:
        self.store = store
        self.synced = asyncio.Event()
        self._client, self._path, self._selector = client, path, selector
        self._on_change, self._on_error, self._rng = on_change, on_error, rng
        self._backoff = INITIAL_BACKOFF

    async def run(self) -> None:
        """Lists, then watches, and repeats; as `ListAndWatch` in client-go's reflector.go."""
        while True:
            try:
                if not self.store.resource_version:
                    await self._list()
                await self._watch()
            except Gone:
                self.store.resource_version = ""
            except ApiServerUnreachable as error:
                self._on_error(str(error))
                await asyncio.sleep(self._next_backoff(error))
            except msgspec.DecodeError:
                self.store.resource_version = ""  # a line cut off by a lost connection; the next list has its content
                await asyncio.sleep(self._next_backoff())

    async def _list(self) -> None:
        listing = await self._client.list_raw(self._path, selector=self._selector)
        self._record_response()
        self._notify(self.store.replace(map(bytes, listing.items), listing.resource_version))
        self.synced.set()

    async def _watch(self) -> None:
        got_event = False
        async with aclosing(
            self._client.watch_lines(self._path, self.store.resource_version, selector=self._selector)
        ) as lines:
            async for line in lines:
                got_event = True
                self._record_response()
                self._notify(self.store.apply_watch_event(line))
        if not got_event:  # a server that ends watches at once must not be asked in a tight loop
            await asyncio.sleep(self._next_backoff())

    def _notify(self, changes: Iterable[ObjectChange[T]]) -> None:
        for change in changes:
            self._on_change(change)

    def _record_response(self) -> None:
        self._backoff = INITIAL_BACKOFF
        self._on_error("")

    def _next_backoff(self, error: ClusterError | None = None) -> float:
        """Seconds to wait: doubled each time, with ±25 % jitter, at least as long as the server's Retry-After."""
        seconds = self._backoff * self._rng.uniform(0.75, 1.25)
        self._backoff = min(MAX_BACKOFF, self._backoff * 2)
        return max(seconds, error.retry_after_seconds) if isinstance(error, TooManyRequests) else seconds


def _version_number(version: str) -> int:
    """A resourceVersion as a number (comparable by KEP-5504); 0 if it is not decimal."""
    return int(version) if version.isdecimal() else 0
