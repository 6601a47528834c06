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

from epp_batch.errors import ClusterError, Unreachable
from epp_batch.kube.client import Client
from epp_batch.kube.errors import Busy, Gone, Status, refusal
from epp_batch.kube.objects import Meta, Named

T = TypeVar("T", bound=Named)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0


class Change(NamedTuple, Generic[T]):
    """One object before and after; None where it is not there."""

    before: T | None
    after: T | None


class _Envelope(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: Meta


_envelopes = msgspec.json.Decoder(_Envelope)
_bookmarks = msgspec.json.Decoder(_Bookmark)
_statuses = msgspec.json.Decoder(Status)


class Mirror(Generic[T]):
    """The objects by name, and the version they are of. `keep` leaves strangers out."""

    def __init__(self, kind: type[T], keep: Callable[[T], bool] = lambda _: True) -> None:
        self.objects: dict[str, T] = {}
        self.version = ""
        self._inserted: dict[str, T] = {}
        self._decoder = msgspec.json.Decoder(kind)
        self._keep = keep

    def replace(self, items: Iterable[bytes], version: str) -> list[Change[T]]:
        """Takes over a whole list; returns what is different. What was inserted after the list was made stays."""
        newer = {n: i for n, i in self._inserted.items() if _number(i.metadata.resource_version) > _number(version)}
        found = {item.metadata.name: item for item in map(self._decoder.decode, items) if self._keep(item)} | newer
        gone: list[Change[T]] = [Change(old, None) for name, old in self.objects.items() if name not in found]
        there = [change for item in found.values() for change in self._differences(item)]
        self.objects, self.version, self._inserted = found, version, newer
        return gone + there

    def insert(self, raw: bytes, on_change: Callable[[Change[T]], None]) -> None:
        """An object that we wrote: read at once, not only when the watch tells of it."""
        item = self._decoder.decode(raw)
        known = self.objects.get(item.metadata.name)
        if known is None or _number(known.metadata.resource_version) < _number(item.metadata.resource_version):
            self._inserted[item.metadata.name] = item
            for change in self._put(item):
                on_change(change)

    def receive(self, line: bytes) -> list[Change[T]]:
        """One watch event. Gone when the version is too old, another ClusterError when the server says so."""
        event = _envelopes.decode(line)
        if event.type == "ERROR":
            status = _statuses.decode(event.object)
            raise refusal("watch", status.code or 500, bytes(event.object))
        if event.type == "BOOKMARK":
            self.version = _bookmarks.decode(event.object).metadata.resource_version
            return []
        item = self._decoder.decode(event.object)
        self.version = item.metadata.resource_version
        self._inserted.pop(item.metadata.name, None)
        return self._delete(item) if event.type == "DELETED" else self._put(item)

    def _put(self, item: T) -> list[Change[T]]:
        if not self._keep(item):
            return self._delete(item)
        changes = self._differences(item)
        self.objects[item.metadata.name] = item
        return changes

    def _delete(self, item: T) -> list[Change[T]]:
        old = self.objects.pop(item.metadata.name, None)
        return [] if old is None else [Change(old, None)]

    def _differences(self, item: T) -> list[Change[T]]:
        """Another uid under the same name is one object gone and one come."""
        old = self.objects.get(item.metadata.name)
        if old is None or old.metadata.uid == item.metadata.uid:
            same = old is not None and old.metadata.resource_version == item.metadata.resource_version
            return [] if same else [Change(old, item)]
        return [Change(old, None), Change(None, item)]


class Reflector(Generic[T]):
    """Keeps `mirror` equal to one collection of the API server, until cancelled.

    `on_change` is called in order of observation; `on_trouble` with a text while the server does not answer, and with
    an empty one as soon as it does again. A refusal that time does not heal (403, 404) ends `run` with its error.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        mirror: Mirror[T],
        *,
        on_change: Callable[[Change[T]], None],
        on_trouble: Callable[[str], None],
        dice: random.Random,
        selector: str = "",
    ) -> None:
        self.mirror = mirror
        self.synced = asyncio.Event()
        self._client, self._path, self._selector = client, path, selector
        self._on_change, self._on_trouble, self._dice = on_change, on_trouble, dice
        self._pause = FIRST_PAUSE

    async def run(self) -> None:
        """Lists, then watches, again and again."""
        while True:
            try:
                if not self.mirror.version:
                    await self._list()
                await self._watch()
            except Gone:
                self.mirror.version = ""
            except Unreachable as error:
                self._on_trouble(str(error))
                await asyncio.sleep(self._next_pause(error))
            except msgspec.DecodeError:
                self.mirror.version = ""  # a line cut off in the middle: what it said is in the next list
                await asyncio.sleep(self._next_pause())

    async def _list(self) -> None:
        listing = await self._client.list_raw(self._path, selector=self._selector)
        self._answered()
        self._tell(self.mirror.replace(map(bytes, listing.items), listing.version))
        self.synced.set()

    async def _watch(self) -> None:
        heard = False
        async with aclosing(
            self._client.watch_lines(self._path, self.mirror.version, selector=self._selector)
        ) as lines:
            async for line in lines:
                heard = True
                self._answered()
                self._tell(self.mirror.receive(line))
        if not heard:
            await asyncio.sleep(self._next_pause())

    def _tell(self, changes: Iterable[Change[T]]) -> None:
        for change in changes:
            self._on_change(change)

    def _answered(self) -> None:
        self._pause = FIRST_PAUSE
        self._on_trouble("")

    def _next_pause(self, error: ClusterError | None = None) -> float:
        """Seconds to wait: doubled each time, spread by a half, and no less than the server asks for."""
        pause = self._pause * self._dice.uniform(0.75, 1.25)
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        return max(pause, error.seconds) if isinstance(error, Busy) else pause


def _number(version: str) -> int:
    """Versions of one server can be compared as numbers; 0 for one that is none."""
    return int(version) if version.isdecimal() else 0
