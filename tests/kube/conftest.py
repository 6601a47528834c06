"""Fixtures on a real control plane: one plane for the session, a namespace, an API connection and queues per test."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from epp.clock import SystemClock
from tests.kube.cluster.background_build import BackgroundBuild
from tests.kube.cluster.client import JOBS, NAMESPACES, NODES, KubeApi
from tests.kube.cluster.mig import GpuModel
from tests.kube.cluster.node_agent import AgentNode, NodeAgent
from tests.kube.cluster.objects import build_kwok_node
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues
from tests.kube.tools.build import BuildError, cache_folder, is_built

HERE = Path(__file__).parent
CreateKwokNodes = Callable[..., Awaitable[list[str]]]
CreateProcessNodes = Callable[..., Awaitable[NodeAgent]]
BUILD_FAILURE = pytest.StashKey[str]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "plane" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kube)
            item.add_marker(pytest.mark.xdist_group("plane"))  # one worker has the plane, whatever the others run
    items.sort(key=_needs_plane)  # last: without workers a test that fails early is not behind the build


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Builds the control plane before the first test that needs it; in a fixture, its timeout would cut that off."""
    if _needs_plane(item) and not is_built(cache_folder(os.environ)) and BUILD_FAILURE not in item.config.stash:
        capture = item.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            try:
                _build_plane()
            except BuildError as error:
                item.config.stash[BUILD_FAILURE] = str(error)
    return (yield)


def _build_plane() -> None:
    """Shows the build's output on standard error, which xdist's workers share with the terminal."""
    folder = Path(tempfile.mkdtemp(prefix="epp-kube-build-"))
    building = BackgroundBuild(folder / "log", os.environ)
    try:
        building.wait(lambda line: print(line, file=sys.stderr, flush=True))
    finally:
        building.close()
        shutil.rmtree(folder)


def _needs_plane(item: pytest.Item) -> bool:
    return item.get_closest_marker("kube") is not None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlPlane]:
    """The control plane; about 7 s, once."""
    if failure := request.config.stash.get(BUILD_FAILURE, None):
        pytest.fail(f"the control plane cannot be built: {failure}", pytrace=False)
    async with ControlPlane(tmp_path_factory.mktemp("plane"), cache_folder(os.environ), SystemClock()) as plane:
        yield plane


@pytest_asyncio.fixture
async def api(plane: ControlPlane) -> AsyncIterator[KubeApi]:
    """The administrator's connection."""
    async with plane.connect() as api:
        yield api


@pytest_asyncio.fixture
async def namespace(request: pytest.FixtureRequest, plane: ControlPlane, api: KubeApi) -> AsyncIterator[str]:
    """A namespace of the test's own; its Jobs end with it."""
    made = await api.request(
        "POST",
        NAMESPACES.path(),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "t-"}},
    )
    name = made["metadata"]["name"]
    yield name
    if request.node is request.session.items[-1]:
        return  # the plane goes, too; a thousand Jobs take longer

    async def removed() -> bool:
        await api.request("DELETE", JOBS.path(name), {"propagationPolicy": "Background"})
        await api.delete(NAMESPACES, name)
        return True

    await plane.wait_until("the namespace may go", removed)


@pytest_asyncio.fixture
async def queues(plane: ControlPlane, api: KubeApi, namespace: str) -> AsyncIterator[Queues]:
    """Queues over the test's own nodes: those with the label test=NAMESPACE."""
    queues = Queues(plane, api, namespace, {"test": namespace})
    yield queues
    await queues.close()


@pytest_asyncio.fixture
async def kwok_nodes(api: KubeApi, namespace: str) -> AsyncIterator[CreateKwokNodes]:
    """`await kwok_nodes(count, {"nvidia.com/gpu": 1})`: nodes that KWOK plays, removed after the test."""
    made: list[str] = []

    async def make(nodes: int, devices: dict[str, int]) -> list[str]:
        first = len(made)
        for number in range(first, first + nodes):
            name = f"{namespace}-{number}"
            await api.create(build_kwok_node(name, devices, {"test": namespace}))
            made.append(name)
        return made[first:]

    yield make
    for name in made:
        await api.delete(NODES, name)


@pytest_asyncio.fixture
async def process_nodes(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[CreateProcessNodes]:
    """`await process_nodes(2, {"nvidia.com/gpu": 1}, {"worker": ["python", "-m", "worker"]})`: a NodeAgent.

    `gpus=(A100_40,)` gives every node GPUs by DRA; further keywords are NodeAgent's. Each call is an agent of its own.
    """
    agents = count(0)
    names = (f"{namespace}-p{number}" for number in count(0))
    async with AsyncExitStack() as stack:

        async def make(
            nodes: int,
            devices: dict[str, int],
            entrypoints: dict[str, Sequence[str]],
            *,
            gpus: tuple[GpuModel, ...] = (),
            **more: Any,
        ) -> NodeAgent:
            number = next(agents)
            agent = NodeAgent(
                plane.kubeconfig,
                plane.pki,
                tmp_path / f"agent-{number}",
                [AgentNode(name, devices, {"test": namespace}, gpus) for name in islice(names, nodes)],
                clock=SystemClock(),
                entrypoints=entrypoints,
                **{"network": f"127.{100 + number}", **more},
            )
            return await stack.enter_async_context(agent)

        yield make
