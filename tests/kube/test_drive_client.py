"""The client and the reflector against the real API server: what it refuses, and what it forgets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from epp.tasks import Tasks
from epp_batch.controller.queue_positions import request_queue_positions
from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.client import ApiClient, open_client
from epp_batch.kube.errors import Conflict, Forbidden, Gone, Invalid, NotFound
from epp_batch.kube.informer import ObjectChange, Reflector, Store
from epp_batch.kube.objects import Job
from epp_batch.kube.resources import JOBS
from tests.kube.cluster.client import JOBS as KIND
from tests.kube.cluster.client import Api
from tests.kube.cluster.objects import container, job
from tests.kube.cluster.plane import Plane
from tests.kube.cluster.queues import Queues


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[ApiClient]:
    async with open_client(str(plane.kubeconfig)) as client:
        yield client


async def test_refusals_have_their_kind(client: ApiClient, namespace: str, plane: Plane) -> None:
    made = job("j", namespace, container())
    path = JOBS.path(namespace)
    await client.create(path, made, dryRun="All")
    with pytest.raises(NotFound):
        await client.get(JOBS.path(namespace, "j"))
    uid = (await client.create(path, made))["metadata"]["uid"]
    with pytest.raises(Conflict):
        await client.create(path, made)
    with pytest.raises(Invalid, match="parallelism"):
        await client.create(path, job("k", namespace, container(), parallelism=-1))
    with pytest.raises(Conflict):
        await client.delete(JOBS.path(namespace, "j"), uid="another")
    await client.delete(JOBS.path(namespace, "j"), uid=uid)
    await client.delete(JOBS.path(namespace, "gone"))
    async with open_client(str(await plane.user(namespace, "nobody", []))) as nobody:
        with pytest.raises(Forbidden, match="cannot list"):
            await nobody.list(path)


async def test_a_token_that_expired_is_read_again(plane: Plane, namespace: str, tmp_path: Path) -> None:
    text = plane.kubeconfig.read_text()
    token = next(line.split("token:")[1].strip() for line in text.splitlines() if "token:" in line)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(text.replace(token, "expired"))
    async with open_client(str(kubeconfig)) as client:
        with pytest.raises(Forbidden):
            await client.list(JOBS.path(namespace))
        kubeconfig.write_text(text)
        assert await client.list(JOBS.path(namespace)) == []


async def test_a_server_that_is_not_the_one_of_the_kubeconfig(plane: Plane, tmp_path: Path) -> None:
    text = plane.kubeconfig.read_text()
    other = tmp_path / "kubeconfig"
    other.write_text(text.replace(plane.url, "https://127.0.0.1:1"))
    async with open_client(str(other)) as client:
        with pytest.raises(ApiServerUnreachable):
            await client.get("/version")
    lines = [line for line in text.splitlines() if "certificate-authority" not in line]
    other.write_text("\n".join(lines))
    async with open_client(str(other)) as client:
        with pytest.raises(ClusterError, match="CA") as refused:
            await client.get("/version")
    assert not isinstance(refused.value, ApiServerUnreachable)


async def test_a_history_that_is_gone_is_listed_anew(plane: Plane, client: ApiClient, api: Api, namespace: str) -> None:
    """410: an API server that was started again does not know what was before."""
    changes: list[ObjectChange[Job]] = []
    mirror, tasks = Store(Job), Tasks("test")
    for name in ("stays", "goes"):
        await api.create(job(name, namespace, container(), queue="none"))
    listing = await client.list_raw(JOBS.path(namespace))
    mirror.replace(map(bytes, listing.items), listing.resource_version)
    await api.delete(KIND, "goes", namespace, propagationPolicy="Background")
    await plane.restart("kube-apiserver")
    with pytest.raises(Gone):
        await _watched(client, JOBS.path(namespace), mirror)
    assert sorted(mirror.objects) == ["goes", "stays"]

    reflector = Reflector(
        client,
        JOBS.path(namespace),
        mirror,
        on_change=changes.append,
        on_trouble=lambda _: None,
        dice=random.Random(1),
    )
    tasks.spawn("reflector", reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 60)
    await tasks.close()
    assert sorted(mirror.objects) == ["stays"]
    assert [before.metadata.name for before, after in changes if before and after is None] == ["goes"]


async def _watched(client: ApiClient, path: str, mirror: Store[Job]) -> None:
    async for line in client.watch_lines(path, mirror.resource_version):
        mirror.apply_watch_event(line)


async def test_positions_in_the_queue(
    plane: Plane, client: ApiClient, api: Api, namespace: str, queues: Queues
) -> None:
    await queues.add("lq", {"nvidia.com/gpu": 0})
    for number in range(2):
        await api.create(job(f"j-{number}", namespace, container(devices={"nvidia.com/gpu": 1}), queue="lq"))
    kueue = await client.discover_kueue()

    async def both() -> bool:
        return len(await request_queue_positions(client, kueue, namespace, "lq") or {}) == 2

    await plane.until("both wait", both)
    assert sorted((await request_queue_positions(client, kueue, namespace, "lq") or {}).values()) == [1, 2]
    async with open_client(str(await plane.user(namespace, "blind", []))) as blind:
        assert await request_queue_positions(blind, kueue, namespace, "lq") is None
