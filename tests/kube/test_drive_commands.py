"""status, logs, pause, resume, watch and cancel as processes, beside a living driver."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from epp.clock import SystemClock
from epp.tasks import Tasks
from epp_batch.controller.drive import drive_run
from epp_batch.errors import ClusterError
from epp_batch.kube.client import open_client
from epp_batch.output_folder import OutputFolder
from epp_batch.timeline import read_events
from tests.kube.cluster.client import JOBS, WORKLOADS, KubeApi
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues
from tests.kube.drive_runs import AcceleratedClock, RecordingView, make_run, write_run
from tests.kube.drive_stage import WORKER

GPU = {"nvidia.com/gpu": 1}


class CommandOutput(NamedTuple):
    code: int
    out: str
    errors: str


class Shell:
    """`epp-batch COMMAND OUTPUT …` with the plane's credentials."""

    def __init__(self, plane: ControlPlane, output: Path) -> None:
        self._plane, self._output = plane, output

    async def start(self, command: str, *more: str, folder: bool = True) -> asyncio.subprocess.Process:
        where = [str(self._output)] if folder else []
        words = [command, *where, "--kubeconfig", str(self._plane.kubeconfig), *more]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "epp_batch", *words, stdout=pipe, stderr=pipe, limit=2**22
        )

    async def run(self, command: str, *more: str, folder: bool = True) -> CommandOutput:
        process = await self.start(command, *more, folder=folder)
        out, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return CommandOutput(process.returncode, out.decode(), errors.decode())

    async def read_phases(self) -> dict[str, int]:
        said = await self.run("status", "--json")
        return {name: count for name, count in json.loads(said.out)["state"]["phases"].items() if count}


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.close()


def finish_worker(folder: Path, stem: str) -> None:
    (folder / f"{stem}.play").write_text("done")


async def wait_for_start(plane: ControlPlane, folder: Path, stems: str) -> str:
    """Waits until a worker has started; returns the first of `stems`, one letter each, that has."""

    async def there() -> str | None:
        return next((stem for stem in stems if (folder / f"{stem}.starts").exists()), None)

    return await plane.wait_until(f"one of {stems} has started", there)


@pytest.mark.timeout(240)
async def test_status_pause_resume_watch_logs_and_cancel_beside_a_driver(
    plane: ControlPlane,
    api: KubeApi,
    namespace: str,
    queues: Queues,
    process_nodes: Callable,
    tmp_path: Path,
    tasks: Tasks,
) -> None:
    await process_nodes(1, GPU, WORKER)
    await queues.add_queue("lq", GPU)
    ours = make_run("r", tmp_path, namespace, ["a", "b", "c"])
    folder, shell, view = write_run(ours), Shell(plane, tmp_path), RecordingView()
    async with open_client(str(plane.kubeconfig)) as client:
        driving = tasks.spawn(
            "driver", drive_run(ours, folder, client=client, clock=SystemClock(), tasks=tasks, view=view)
        )
        one = await wait_for_start(plane, tmp_path, "abc")
        rest = "abc".replace(one, "")

        async def waiting() -> bool:
            return len(await api.list(WORKLOADS, namespace)) == 3

        await plane.wait_until("the others wait", waiting)
        assert await shell.read_phases() == {"running": 1, "queued": 2}
        status = await shell.run("status", "--units")
        assert "0 of 3 done, 1 running, 2 queued" in status.out
        assert f"{one}: running on {namespace}-p0" in status.out
        assert "number 1 in its queue" in status.out
        assert "number 2 in its queue" in status.out
        elsewhere = await shell.run("status", "--run", "r", "--namespace", namespace, folder=False)
        assert (elsewhere.code, elsewhere.out) == (0, "r: 2 queued, 1 running\n")
        assert (await shell.run("logs", "--of", one, "--tail", "1")).out == f"{one} begins\n"
        assert "no log yet" in (await shell.run("logs", "--of", rest[0])).errors
        assert "no recording 'zz'" in (await shell.run("logs", "--of", "zz")).errors

        paused = await shell.run("pause")
        assert paused.out == "r: 2 Jobs paused, 1 run to their end\n"
        finish_worker(tmp_path, one)

        async def one_done() -> bool:
            return await shell.read_phases() == {"done": 1, "paused": 2}

        await plane.wait_until("the running one ends, the others stay", one_done)
        assert sum(not workload["spec"]["active"] for workload in await api.list(WORKLOADS, namespace)) == 2
        assert sum(event.kind == "paused" for event in view.events) == 2

        assert (await shell.run("resume")).out == "r: 2 Jobs resumed\n"
        watching = await shell.start("watch", "--json")
        second = await wait_for_start(plane, tmp_path, rest)
        following = await shell.start("logs", "--of", second, "--follow")
        assert following.stdout is not None
        assert await asyncio.wait_for(following.stdout.readline(), 60) == f"{second} begins\n".encode()
        assert watching.stdout is not None
        first = json.loads(await asyncio.wait_for(watching.stdout.readline(), 60))
        assert next(iter(first)) in ("event", "state")

        cancelled = await shell.run("cancel")
        assert cancelled.out.startswith("r: 2 Jobs deleted, 1 of them were running\n")
        assert f"kept in {tmp_path}: 1 of 3 transcripts" in cancelled.out
        outcome = await asyncio.wait_for(driving, 60)
        await asyncio.wait_for(watching.communicate(), 60)
        await asyncio.wait_for(following.communicate(), 60)
    assert (sorted(outcome.done), len(outcome.cancelled), outcome.exit_code) == ([one], 2, 1)
    assert watching.returncode == 1
    assert await shell.read_phases() == {"done": 1, "cancelled": 2}
    assert len(await api.list(JOBS, namespace)) == 1
    recorded = [(event.unit, event.kind, event.attempt) for event in read_events(folder.events_file)]
    assert len(recorded) == len(set(recorded))  # `watch` wrote no event


async def test_pause_now_stops_a_running_job_and_pause_queue_holds_a_local_queue(
    plane: ControlPlane,
    api: KubeApi,
    namespace: str,
    queues: Queues,
    process_nodes: Callable,
    tmp_path: Path,
    tasks: Tasks,
) -> None:
    await process_nodes(1, GPU, WORKER)
    await queues.add_queue("lq", GPU)
    ours = make_run("r", tmp_path, namespace, ["a"])
    folder, shell, view = write_run(ours), Shell(plane, tmp_path), RecordingView()
    async with open_client(str(plane.kubeconfig)) as client:
        driving = tasks.spawn(
            "driver", drive_run(ours, folder, client=client, clock=SystemClock(), tasks=tasks, view=view)
        )
        await wait_for_start(plane, tmp_path, "a")
        assert (await shell.run("pause", "--now")).out == "r: 1 Job paused\n"

        async def terminated() -> bool:
            return (tmp_path / "a.sigterm").exists()

        await plane.wait_until("the worker got SIGTERM", terminated)
        held = await shell.run("pause", "--queue", "lq")
        assert held.out == f"LocalQueue {namespace}/lq is on hold\n"
        await shell.run("resume")
        finish_worker(tmp_path, "a")
        await shell.run("resume", "--queue", "lq")
        outcome = await asyncio.wait_for(driving, 60)
    assert outcome.exit_code == 0
    kinds = [event.kind for event in view.events]
    assert kinds.index("paused") < kinds.index("resumed") < kinds.index("finished")


async def test_missing_rights_end_the_driver_with_the_servers_message(
    plane: ControlPlane, namespace: str, queues: Queues, tmp_path: Path, tasks: Tasks
) -> None:
    await queues.add_queue("lq", GPU)
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch"]}]
    kubeconfig = await plane.create_user(namespace, "reader", rules)
    ours = make_run("r", tmp_path, namespace, ["a"])
    async with open_client(str(kubeconfig)) as client:
        with pytest.raises(ClusterError, match="cannot list resource"):
            await drive_run(
                ours, write_run(ours), client=client, clock=SystemClock(), tasks=tasks, view=RecordingView()
            )


async def test_a_job_that_exceeds_the_quota_fails_and_is_deleted(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, tmp_path: Path, tasks: Tasks
) -> None:
    await queues.add_queue("lq", {"nvidia.com/gpu": 0})
    ours = make_run("r", tmp_path, namespace, ["a"])
    view = RecordingView()
    async with open_client(str(plane.kubeconfig)) as client:
        outcome = await asyncio.wait_for(
            drive_run(ours, write_run(ours), client=client, clock=AcceleratedClock(), tasks=tasks, view=view), 60
        )
    [failure] = outcome.failed
    assert (failure.stage, failure.kind, outcome.exit_code) == ("queue", "refused", 1)
    assert "maximum capacity" in failure.message
    assert any("can never be admitted" in trouble for tick in view.statuses for trouble in tick.troubles)

    async def deleted() -> bool:
        return await api.list(JOBS, namespace) == []

    await plane.wait_until("its Job is deleted", deleted)
    assert OutputFolder(tmp_path).load_failure("a") == failure
