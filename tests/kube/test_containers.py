"""What a container's process is given, without a cluster."""

from __future__ import annotations

import sys
from decimal import Decimal

import pytest

from tests.kube.cluster.containers import (
    Mount,
    UnknownImage,
    container_command,
    expand_variables,
    find_entry_point,
    memory_limit,
    parse_quantity,
    resolve_field_ref,
    resolve_resource_field_ref,
    rewrite_paths,
)
from tests.kube.cluster.devices import DevicePool, DeviceUnavailable

MOUNTS = [Mount("/data", "/tmp/d"), Mount("/data/in", "/tmp/i"), Mount("/dev/termination-log", "/tmp/t")]
POD = {
    "metadata": {"name": "p", "uid": "1", "labels": {"app": "x"}, "annotations": {"a/b": "c"}},
    "spec": {"nodeName": "n"},
}


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("/data", "/tmp/d"),
        ("/data/a.wav", "/tmp/d/a.wav"),
        ("/data/in/a.wav", "/tmp/i/a.wav"),
        ("--out=/data/out", "--out=/tmp/d/out"),
        ("/data:/data/in", "/tmp/d:/tmp/i"),
        ("echo done > /dev/termination-log", "echo done > /tmp/t"),
        ("/database", "/database"),
        ("/srv/data", "/srv/data"),
        ("s3://bucket/data", "s3://bucket/data"),
    ],
)
def test_mounted_paths_are_replaced_where_a_path_begins(text: str, rewritten: str) -> None:
    assert rewrite_paths(text, MOUNTS) == rewritten


def test_nothing_is_replaced_without_mounts() -> None:
    assert rewrite_paths("/data", []) == "/data"


def test_variables_expand_as_in_the_api() -> None:
    assert expand_variables("$(A)/$(B) $$(A) $A", {"A": "1"}) == "1/$(B) $(A) $A"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['app']", "x"),
        ("metadata.annotations['a/b']", "c"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'app="x"'),
        ("spec.nodeName", "n"),
        ("spec.serviceAccountName", ""),
    ],
)
def test_the_downward_api_reads_fields(path: str, value: str) -> None:
    assert resolve_field_ref(POD, path) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", "2"), ("500m", "0.5"), ("1Gi", "1073741824"), ("1.5k", "1500"), ("1e3", "1000"), (7, "7")],
)
def test_quantities(text: str | int, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "1Zi", "one", "1 Gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid quantity"):
        parse_quantity(text)


def test_resources_are_told_in_whole_divisors_rounded_up() -> None:
    container = {"resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}
    assert resolve_resource_field_ref(container, {"resource": "limits.cpu"}) == "2"
    assert resolve_resource_field_ref(container, {"resource": "limits.memory", "divisor": "1Mi"}) == "1024"
    assert resolve_resource_field_ref(container, {"resource": "requests.cpu"}) == "0"
    assert memory_limit(container) == 1 << 30
    assert memory_limit({}) is None


def test_an_image_names_its_entry_point_by_its_last_part_or_in_full() -> None:
    entrypoints = {"worker": ["python", "-m", "worker"], "a/b:1": ["b"]}
    for image in ("worker", "worker:1", "registry.example:5000/team/worker@sha256:ab", "team/worker:1.2"):
        assert find_entry_point(image, entrypoints) == ["python", "-m", "worker"]
    assert find_entry_point("a/b:1", entrypoints) == ["b"]
    with pytest.raises(UnknownImage, match=r"coworker:1; known: a/b:1, worker"):
        find_entry_point("coworker:1", entrypoints)


def test_a_command_replaces_the_entry_point_and_python_is_ours() -> None:
    assert container_command({"image": "none", "command": ["python3"], "args": ["-V"]}, {}) == (
        [sys.executable],
        ["-V"],
    )
    assert container_command({"image": "none", "command": ["/bin/ls"], "args": ["/data"]}, {}) == (
        [],
        ["/bin/ls", "/data"],
    )
    assert container_command({"image": "x", "args": ["/tmp"]}, {"x": ["python", "/tmp/x"]}) == (
        [sys.executable, "/tmp/x"],
        ["/tmp"],
    )


def wants(uid: str, count: int) -> dict:
    container = {"name": "main", "resources": {"limits": {"nvidia.com/mig-1g.5gb": str(count), "cpu": "1"}}}
    return {"metadata": {"uid": uid}, "spec": {"containers": [container]}}


def test_devices_are_handed_out_once_and_come_back() -> None:
    pool = DevicePool({"nvidia.com/mig-1g.5gb": 3})
    first, second = wants("1", 2), wants("2", 2)
    assert pool.allocate(first) == {"main": ["mig-1g-5gb-0", "mig-1g-5gb-1"]}
    with pytest.raises(DeviceUnavailable, match=r"2 of nvidia\.com/mig-1g\.5gb requested, 1 free"):
        pool.allocate(second)
    pool.release(first)
    assert pool.allocate(second) == {"main": ["mig-1g-5gb-2", "mig-1g-5gb-0"]}
