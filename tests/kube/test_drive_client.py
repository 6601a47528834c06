"""ApiClient and Reflector against a real API server: its errors, and an expired watch history."""

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
from tests.kube.cluster.client import KubeApi
from tests.kube.cluster.objects import build_container, build_job
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncIterator[ApiClient]:
    async with open_client(str(plane.kubeconfig)) as client:
        yield client


async def test_errors_have_the_type_of_their_status(client: ApiClient, namespace: str, plane: ControlPlane) -> None:
    made = build_job("j", namespace, build_container())
    path = JOBS.path(namespace)
    await client.create(path, made, dryRun="All")
    with pytest.raises(NotFound):
        await client.get(JOBS.path(namespace, "j"))
    uid = (await client.create(path, made))["metadata"]["uid"]
    with pytest.raises(Conflict):
        await client.create(path, made)
    with pytest.raises(Invalid, match="parallelism"):
        await client.create(path, build_job("k", namespace, build_container(), parallelism=-1))
    with pytest.raises(Conflict):
        await client.delete(JOBS.path(namespace, "j"), uid="another")
    await client.delete(JOBS.path(namespace, "j"), uid=uid)
    await client.delete(JOBS.path(namespace, "gone"))
    async with open_client(str(await plane.create_user(namespace, "unprivileged", []))) as unprivileged:
        with pytest.raises(Forbidden, match="cannot list"):
            await unprivileged.list(path)


async def test_an_expired_token_is_read_again_from_the_kubeconfig(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    text = plane.kubeconfig.read_text()
    token = next(line.split("token:")[1].strip() for line in text.splitlines() if "token:" in line)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(text.replace(token, "expired"))
    async with open_client(str(kubeconfig)) as client:
        with pytest.raises(Forbidden):
            await client.list(JOBS.path(namespace))
        kubeconfig.write_text(text)
        assert await client.list(JOBS.path(namespace)) == []


async def test_an_unreachable_server_and_an_untrusted_certificate(plane: ControlPlane, tmp_path: Path) -> None:
    text = plane.kubeconfig.read_text()
    other = tmp_path / "kubeconfig"
    other.write_text(text.replace(plane.url, "https://127.0.0.1:1"))
    async with open_client(str(other)) as client:
        with pytest.raises(ApiServerUnreachable):
            await client.get("/version")
    lines = [line for line in text.splitlines() if "certificate-authority" not in line]
    other.write_text("\n".join(lines))
    async with open_client(str(other)) as client:
        with pytest.raises(ClusterError, match="CA") as error:
            await client.get("/version")
    assert not isinstance(error.value, ApiServerUnreachable)


async def test_an_expired_watch_history_is_listed_again(
    plane: ControlPlane, client: ApiClient, api: KubeApi, namespace: str
) -> None:
    """410 Gone: a restarted API server has no watch events of the time before."""
    changes: list[ObjectChange[Job]] = []
    store, tasks = Store(Job), Tasks("test")
    for name in ("stays", "goes"):
        await api.create(build_job(name, namespace, build_container(), queue="none"))
    listing = await client.list_raw(JOBS.path(namespace))
    store.replace(map(bytes, listing.items), listing.resource_version)
    await api.delete(KIND, "goes", namespace, propagationPolicy="Background")
    await plane.restart_program("kube-apiserver")
    with pytest.raises(Gone):
        await _watch(client, JOBS.path(namespace), store)
    assert sorted(store.objects) == ["goes", "stays"]

    reflector = Reflector(
        client,
        JOBS.path(namespace),
        store,
        on_change=changes.append,
        on_error=lambda _: None,
        rng=random.Random(1),
    )
    tasks.spawn("reflector", reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 60)
    await tasks.close()
    assert sorted(store.objects) == ["stays"]
    assert [before.metadata.name for before, after in changes if before and after is None] == ["goes"]


async def _watch(client: ApiClient, path: str, store: Store[Job]) -> None:
    async for line in client.watch_lines(path, store.resource_version):
        store.apply_watch_event(line)


async def test_queue_positions_from_the_visibility_api(
    plane: ControlPlane, client: ApiClient, api: KubeApi, namespace: str, queues: Queues
) -> None:
    await queues.add_queue("lq", {"nvidia.com/gpu": 0})
    for number in range(2):
        await api.create(
            build_job(f"j-{number}", namespace, build_container(devices={"nvidia.com/gpu": 1}), queue="lq")
        )
    kueue = await client.discover_kueue()

    async def both_pending() -> bool:
        return len(await request_queue_positions(client, kueue, namespace, "lq") or {}) == 2

    await plane.wait_until("both wait", both_pending)
    assert sorted((await request_queue_positions(client, kueue, namespace, "lq") or {}).values()) == [1, 2]
    async with open_client(str(await plane.create_user(namespace, "blind", []))) as blind:
        assert await request_queue_positions(blind, kueue, namespace, "lq") is None
