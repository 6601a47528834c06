"""A Store is equal to its collection, whatever the watch missed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.errors import ApiServerUnreachable
from epp_batch.kube.errors import Gone
from epp_batch.kube.informer import ObjectChange, Store
from epp_batch.kube.objects import Job

NAMES = ("a", "b", "c")


def document(name: str, uid: str, version: int) -> dict:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}}


def raw(value: dict) -> bytes:
    return json.dumps(value).encode()


def event(kind: str, value: dict) -> bytes:
    return raw({"type": kind, "object": value})


class Server:
    """A collection with a watch history, as the API server has it."""

    def __init__(self) -> None:
        self.version = 0
        self.items: dict[str, dict] = {}
        self.history: list[tuple[int, bytes]] = []

    def put(self, name: str) -> None:
        self.version += 1
        kind = "MODIFIED" if name in self.items else "ADDED"
        uid = self.items[name]["metadata"]["uid"] if name in self.items else f"u{self.version}"
        self._log(kind, name, document(name, uid, self.version))
        self.items[name] = document(name, uid, self.version)

    def remove(self, name: str) -> None:
        if name in self.items:
            self.version += 1
            old = self.items.pop(name)
            self._log("DELETED", name, document(name, old["metadata"]["uid"], self.version))

    def _log(self, kind: str, name: str, value: dict) -> None:
        self.history.append((self.version, event(kind, value)))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES)),
        st.tuples(st.just("remove"), st.sampled_from(NAMES)),
        st.tuples(st.just("insert"), st.sampled_from(NAMES)),
        st.tuples(st.just("read"), st.integers(1, 3)),
        st.tuples(st.just("bookmark"), st.just(0)),
        st.tuples(st.just("relist"), st.just(0)),
        st.tuples(st.just("stale relist"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_store_converges_and_its_changes_add_up(steps: list[tuple[str, object]]):
    server, store = Server(), Store(Job)
    replayed: dict[str, str] = {}
    snapshot: tuple[list[bytes], int] = ([], 0)

    def apply(changes: list[ObjectChange[Job]]) -> None:
        for old, new in changes:
            if old is not None:
                assert replayed.pop(old.metadata.name) == old.metadata.uid
            if new is not None:
                replayed[new.metadata.name] = new.metadata.uid

    def read(count: int) -> None:
        pending = [line for version, line in server.history if version > int(store.resource_version or 0)]
        for line in pending[:count]:
            apply(store.apply_watch_event(line))

    for step, what in steps:
        match step:
            case "put":
                server.put(str(what))
            case "remove":
                server.remove(str(what))
            case "insert" if what not in server.items:  # our own write: known before the watch delivers it
                snapshot = ([raw(item) for item in server.items.values()], server.version)
                server.put(str(what))
                store.insert(raw(server.items[str(what)]), lambda change: apply([change]))
            case "read":
                read(int(str(what)))
            case "bookmark" if store.resource_version == str(server.version):
                apply(
                    store.apply_watch_event(event("BOOKMARK", {"metadata": {"resourceVersion": str(server.version)}}))
                )
            case "relist":
                apply(store.replace([raw(item) for item in server.items.values()], str(server.version)))
            case "stale relist" if snapshot[1] >= int(store.resource_version or 0):
                apply(store.replace(snapshot[0], str(snapshot[1])))
    read(len(server.history))
    expected = {name: item["metadata"]["uid"] for name, item in server.items.items()}
    assert {name: job.metadata.uid for name, job in store.objects.items()} == expected == replayed


def test_another_uid_is_a_deletion_and_a_creation():
    store = Store(Job)
    store.replace([raw(document("a", "u1", 1))], "1")
    changes = store.replace([raw(document("a", "u2", 5))], "5")
    assert [(b and b.metadata.uid, a and a.metadata.uid) for b, a in changes] == [("u1", None), (None, "u2")]


def test_objects_that_are_not_accepted_are_left_out():
    store = Store(Job, lambda job: job.metadata.name == "a")
    changes = store.replace([raw(document("a", "u1", 1)), raw(document("b", "u2", 1))], "1")
    assert [new.metadata.name for _, new in changes if new] == ["a"]
    assert store.apply_watch_event(event("ADDED", document("c", "u3", 2))) == []
    assert store.resource_version == "2"


def test_an_error_event_raises_its_error():
    with pytest.raises(Gone):
        Store(Job).apply_watch_event(event("ERROR", {"code": 410, "message": "too old resource version"}))
    with pytest.raises(ApiServerUnreachable):
        Store(Job).apply_watch_event(event("ERROR", {"code": 500, "message": "etcd is away"}))
