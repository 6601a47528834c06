"""A copy of one collection that keeps itself: list once, then watch for ever.

`Mirror` is the rule (no I/O), `Reflector` the pump. A watch that ends goes on where it was; 410 lists anew; what an
outage hid comes out of the next list as ordinary changes.
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


class ObjectChange(NamedTuple, Generic[T]):
    """One object before and after; None where it is not there."""

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
    """The objects by name, and the version they are of. `keep` leaves strangers out."""

    def __init__(self, kind: type[T], keep: Callable[[T], bool] = lambda _: True) -> None:
        self.objects: dict[str, T] = {}
        self.resource_version = ""
        self._inserted: dict[str, T] = {}
        self._decoder = msgspec.json.Decoder(kind)
        self._accepts = keep

    def replace(self, items: Iterable[bytes], version: str) -> list[ObjectChange[T]]:
        """Takes over a whole list; returns what is different. What was inserted after the list was made stays."""
        newer = {
            n: i
            for n, i in self._inserted.items()
            if _version_number(i.metadata.resource_version) > _version_number(version)
        }
        found = {item.metadata.name: item for item in map(self._decoder.decode, items) if self._accepts(item)} | newer
        gone: list[ObjectChange[T]] = [
            ObjectChange(old, None) for name, old in self.objects.items() if name not in found
        ]
        there = [change for item in found.values() for change in self._diff(item)]
        self.objects, self.resource_version, self._inserted = found, version, newer
        return gone + there

    def insert(self, raw: bytes, on_change: Callable[[ObjectChange[T]], None]) -> None:
        """An object that we wrote: read at once, not only when the watch tells of it."""
        item = self._decoder.decode(raw)
        known = self.objects.get(item.metadata.name)
        if known is None or _version_number(known.metadata.resource_version) < _version_number(
            item.metadata.resource_version
        ):
            self._inserted[item.metadata.name] = item
            for change in self._upsert(item):
                on_change(change)

    def apply_watch_event(self, line: bytes) -> list[ObjectChange[T]]:
        """One watch event. Gone when the version is too old, another ClusterError when the server says so."""
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
        """Another uid under the same name is one object gone and one come."""
        old = self.objects.get(item.metadata.name)
        if old is None or old.metadata.uid == item.metadata.uid:
            same = old is not None and old.metadata.resource_version == item.metadata.resource_version
            return [] if same else [ObjectChange(old, item)]
        return [ObjectChange(old, None), ObjectChange(None, item)]


class Reflector(Generic[T]):
    """Keeps `mirror` equal to one collection of the API server, until cancelled.

    `on_change` is called in order of observation; `on_trouble` with a text while the server does not answer, and with
    an empty one as soon as it does again. A refusal that time does not heal (403, 404) ends `run` with its error.
    """

    def __init__(
        self,
        client: ApiClient,
        path: str,
        mirror: Store[T],
        *,
        on_change: Callable[[ObjectChange[T]], None],
        on_trouble: Callable[[str], None],
        dice: random.Random,
        selector: str = "",
    ) -> None:
        self.store = mirror
        self.synced = asyncio.Event()
        self._client, self._path, self._selector = client, path, selector
        self._on_change, self._on_error, self._rng = on_change, on_trouble, dice
        self._backoff = INITIAL_BACKOFF

    async def run(self) -> None:
        """Lists, then watches, again and again."""
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
                self.store.resource_version = ""  # a line cut off in the middle: what it said is in the next list
                await asyncio.sleep(self._next_backoff())

    async def _list(self) -> None:
        listing = await self._client.list_raw(self._path, selector=self._selector)
        self._record_response()
        self._notify(self.store.replace(map(bytes, listing.items), listing.resource_version))
        self.synced.set()

    async def _watch(self) -> None:
        heard = False
        async with aclosing(
            self._client.watch_lines(self._path, self.store.resource_version, selector=self._selector)
        ) as lines:
            async for line in lines:
                heard = True
                self._record_response()
                self._notify(self.store.apply_watch_event(line))
        if not heard:
            await asyncio.sleep(self._next_backoff())

    def _notify(self, changes: Iterable[ObjectChange[T]]) -> None:
        for change in changes:
            self._on_change(change)

    def _record_response(self) -> None:
        self._backoff = INITIAL_BACKOFF
        self._on_error("")

    def _next_backoff(self, error: ClusterError | None = None) -> float:
        """Seconds to wait: doubled each time, spread by a half, and no less than the server asks for."""
        pause = self._backoff * self._rng.uniform(0.75, 1.25)
        self._backoff = min(MAX_BACKOFF, self._backoff * 2)
        return max(pause, error.retry_after_seconds) if isinstance(error, TooManyRequests) else pause


def _version_number(version: str) -> int:
    """Versions of one server can be compared as numbers; 0 for one that is none."""
    return int(version) if version.isdecimal() else 0
