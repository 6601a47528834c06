"""A thousand write_recordings through real Kueue, while the driver process is killed twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import wave
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from epp.tasks import Tasks
from epp_batch.output_folder import OutputFolder
from epp_batch.timeline import read_events
from tests.kube.cluster.client import JOBS, PODS, KubeApi, Resource
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues
from tests.kube.drive_runs import FakeWorkers

RECORDINGS = 1000
NODES, GPUS = 25, 10  # a pod takes 5 s: at most 50 ends a second


class JobAudit:
    """Records all uids of each Job name: two uids would mean that a Job was created twice."""

    def __init__(self) -> None:
        self.uids: defaultdict[str, set[str]] = defaultdict(set)
        self.succeeded: Counter[str] = Counter()

    async def jobs(self, api: KubeApi, namespace: str) -> None:
        async for _, job in watch_forever(api, JOBS, namespace):
            self.uids[job["metadata"]["name"]].add(job["metadata"]["uid"])

    def made(self) -> int:
        return len(self.uids)


async def watch_forever(api: KubeApi, kind: Resource, namespace: str) -> AsyncIterator[tuple[str, dict]]:
    while True:
        async with aclosing(api.watch(kind, namespace)) as events:
            async for word, document in events:
                if document:
                    yield word, document


@asynccontextmanager
async def driver(
    plane: ControlPlane, namespace: str, sources: Path, output: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`epp-batch submit` as a user runs it; killed on exit if it has not ended."""
    log = (output.parent / "driver.log").open("ab")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "epp_batch", "submit", str(sources),
        "--output", str(output), "--namespace", namespace, "--queue", "lq", "--image", "none", "--model", "tiny",
        "--order", "submission", "--volume", f"host{sources.parent}={sources.parent}",
        "--kubeconfig", str(plane.kubeconfig),
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        log.close()


def write_recordings(folder: Path) -> None:
    """Writes short WAV files with distinct content."""
    folder.mkdir()
    for number in range(RECORDINGS):
        with wave.open(str(folder / f"call-{number:04}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(number.to_bytes(2, "little") * 800)


@pytest.mark.timeout(1200)
async def test_thousand_jobs_with_two_killed_drivers(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, kwok_nodes, tmp_path: Path
) -> None:
    await kwok_nodes(NODES, {"nvidia.com/gpu": GPUS})
    await queues.add_queue("lq", {"nvidia.com/gpu": NODES * GPUS})
    sources, output = tmp_path / "in", tmp_path / "out"
    write_recordings(sources)
    folder, audit, tasks = OutputFolder(output), JobAudit(), Tasks("test")
    tasks.spawn("audit", audit.jobs(api, namespace))
    tasks.spawn("workers", FakeWorkers(api, namespace, output).run())

    def done() -> int:
        return sum(1 for _ in output.glob("*.done.json"))

    async def creating() -> bool:
        return audit.made() >= RECORDINGS // 4

    async def third_done() -> bool:
        return done() >= RECORDINGS // 3

    try:
        for what, reached in (("Jobs are being made", creating), ("a third is done", third_done)):
            async with driver(plane, namespace, sources, output) as process:
                await plane.wait_until(what, reached, 500)
                assert process.returncode is None, (tmp_path / "driver.log").read_text()
                os.kill(process.pid, signal.SIGKILL)
        before = done()
        async with driver(plane, namespace, sources, output) as process:
            code = await asyncio.wait_for(process.wait(), 700)
        log = (tmp_path / "driver.log").read_text()
        assert code == 0, log
        assert before < RECORDINGS
        assert "1000 of 1000 done" in log
        pods = await api.list(PODS, namespace)
    finally:
        await tasks.close()
    assert audit.made() == RECORDINGS
    assert {name for name, uids in audit.uids.items() if len(uids) > 1} == set()
    succeeded = Counter(p["metadata"]["labels"]["epp-batch/unit"] for p in pods if p["status"]["phase"] == "Succeeded")
    assert set(succeeded.values()) == {1}
    assert len(succeeded) == RECORDINGS
    counts = Counter((event.unit, event.kind) for event in read_events(folder.events_file))
    for kind in ("created", "queued", "reserved", "admitted", "running", "finished"):
        once = [counts[unit.name, kind] for unit in folder.load_run().units]
        assert once == [1] * RECORDINGS, f"{kind}: {Counter(once)}"
    assert not {kind for _, kind in counts} & {"failed", "cancelled"}
