"""status, logs, pause, resume, watch and cancel as processes, beside a driver at work."""

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
from tests.kube.cluster.client import JOBS, WORKLOADS, Api
from tests.kube.cluster.plane import Plane
from tests.kube.cluster.queues import Queues
from tests.kube.drive_runs import AcceleratedClock, RecordingView, make_run, write_run
from tests.kube.drive_stage import WORKER

GPU = {"nvidia.com/gpu": 1}


class Said(NamedTuple):
    code: int
    out: str
    errors: str


class Shell:
    """`epp-batch COMMAND OUTPUT …` with the plane's credentials."""

    def __init__(self, plane: Plane, output: Path) -> None:
        self._plane, self._output = plane, output

    async def start(self, command: str, *more: str, folder: bool = True) -> asyncio.subprocess.Process:
        where = [str(self._output)] if folder else []
        words = [command, *where, "--kubeconfig", str(self._plane.kubeconfig), *more]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "epp_batch", *words, stdout=pipe, stderr=pipe, limit=2**22
        )

    async def say(self, command: str, *more: str, folder: bool = True) -> Said:
        process = await self.start(command, *more, folder=folder)
        out, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), errors.decode())

    async def phases(self) -> dict[str, int]:
        said = await self.say("status", "--json")
        return {name: count for name, count in json.loads(said.out)["state"]["phases"].items() if count}


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.close()


def play(folder: Path, stem: str) -> None:
    (folder / f"{stem}.play").write_text("done")


async def started(plane: Plane, folder: Path, stems: str) -> str:
    """The first of `stems`, one letter each, whose worker has started."""

    async def there() -> str | None:
        return next((stem for stem in stems if (folder / f"{stem}.starts").exists()), None)

    return await plane.until(f"one of {stems} has started", there)


@pytest.mark.timeout(240)
async def test_a_run_is_looked_at_paused_resumed_and_cancelled_from_other_terminals(
    plane: Plane, api: Api, namespace: str, queues: Queues, process_nodes: Callable, tmp_path: Path, tasks: Tasks
) -> None:
    await process_nodes(1, GPU, WORKER)
    await queues.add("lq", GPU)
    ours = make_run("r", tmp_path, namespace, ["a", "b", "c"])
    folder, shell, notes = write_run(ours), Shell(plane, tmp_path), RecordingView()
    async with open_client(str(plane.kubeconfig)) as client:
        driving = tasks.spawn(
            "driver", drive_run(ours, folder, connection=client, clock=SystemClock(), tasks=tasks, view=notes)
        )
        one = await started(plane, tmp_path, "abc")
        rest = "abc".replace(one, "")

        async def waiting() -> bool:
            return len(await api.list(WORKLOADS, namespace)) == 3

        await plane.until("the others wait", waiting)
        assert await shell.phases() == {"running": 1, "queued": 2}
        status = await shell.say("status", "--units")
        assert "0 of 3 done, 1 running, 2 queued" in status.out
        assert f"{one}: running on {namespace}-p0" in status.out
        assert "number 1 in its queue" in status.out
        assert "number 2 in its queue" in status.out
        elsewhere = await shell.say("status", "--run", "r", "--namespace", namespace, folder=False)
        assert (elsewhere.code, elsewhere.out) == (0, "r: 2 queued, 1 running\n")
        assert (await shell.say("logs", "--of", one, "--tail", "1")).out == f"{one} begins\n"
        assert "no log yet" in (await shell.say("logs", "--of", rest[0])).errors
        assert "no recording 'zz'" in (await shell.say("logs", "--of", "zz")).errors

        paused = await shell.say("pause")
        assert paused.out == "r: 2 Jobs paused, 1 go on to their end\n"
        play(tmp_path, one)

        async def one_done() -> bool:
            return await shell.phases() == {"done": 1, "paused": 2}

        await plane.until("the running one ends, the others stay", one_done)
        assert sum(not workload["spec"]["active"] for workload in await api.list(WORKLOADS, namespace)) == 2
        assert sum(event.kind == "paused" for event in notes.events) == 2

        assert (await shell.say("resume")).out == "r: 2 Jobs go on\n"
        watching = await shell.start("watch", "--json")
        second = await started(plane, tmp_path, rest)
        following = await shell.start("logs", "--of", second, "--follow")
        assert following.stdout is not None
        assert await asyncio.wait_for(following.stdout.readline(), 60) == f"{second} begins\n".encode()
        assert watching.stdout is not None
        first = json.loads(await asyncio.wait_for(watching.stdout.readline(), 60))
        assert next(iter(first)) in ("event", "state")

        cancelled = await shell.say("cancel")
        assert cancelled.out.startswith("r: 2 Jobs deleted, 1 of them were running\n")
        assert f"kept in {tmp_path}: 1 of 3 transcripts" in cancelled.out
        outcome = await asyncio.wait_for(driving, 60)
        await asyncio.wait_for(watching.communicate(), 60)
        await asyncio.wait_for(following.communicate(), 60)
    assert (sorted(outcome.done), len(outcome.cancelled), outcome.exit_code) == ([one], 2, 1)
    assert watching.returncode == 1
    assert await shell.phases() == {"done": 1, "cancelled": 2}
    assert len(await api.list(JOBS, namespace)) == 1
    told = [(event.unit, event.kind, event.attempt) for event in read_events(folder.events_file)]
    assert len(told) == len(set(told))  # the onlooker wrote nothing


async def test_pausing_now_stops_what_runs_and_a_queue_can_be_held(
    plane: Plane, api: Api, namespace: str, queues: Queues, process_nodes: Callable, tmp_path: Path, tasks: Tasks
) -> None:
    await process_nodes(1, GPU, WORKER)
    await queues.add("lq", GPU)
    ours = make_run("r", tmp_path, namespace, ["a"])
    folder, shell, notes = write_run(ours), Shell(plane, tmp_path), RecordingView()
    async with open_client(str(plane.kubeconfig)) as client:
        driving = tasks.spawn(
            "driver", drive_run(ours, folder, connection=client, clock=SystemClock(), tasks=tasks, view=notes)
        )
        await started(plane, tmp_path, "a")
        assert (await shell.say("pause", "--now")).out == "r: 1 Job paused\n"

        async def told() -> bool:
            return (tmp_path / "a.told").exists()

        await plane.until("the worker got SIGTERM", told)
        held = await shell.say("pause", "--queue", "lq")
        assert held.out == f"LocalQueue {namespace}/lq is on hold\n"
        await shell.say("resume")
        play(tmp_path, "a")
        await shell.say("resume", "--queue", "lq")
        outcome = await asyncio.wait_for(driving, 60)
    assert outcome.exit_code == 0
    kinds = [event.kind for event in notes.events]
    assert kinds.index("paused") < kinds.index("resumed") < kinds.index("finished")


async def test_credentials_that_may_not_are_told_and_end_the_driver(
    plane: Plane, namespace: str, queues: Queues, tmp_path: Path, tasks: Tasks
) -> None:
    await queues.add("lq", GPU)
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch"]}]
    kubeconfig = await plane.user(namespace, "reader", rules)
    ours = make_run("r", tmp_path, namespace, ["a"])
    async with open_client(str(kubeconfig)) as client:
        with pytest.raises(ClusterError, match="cannot list resource"):
            await drive_run(
                ours, write_run(ours), connection=client, clock=SystemClock(), tasks=tasks, view=RecordingView()
            )


async def test_a_queue_that_can_never_hold_a_job_is_told_and_given_up(
    plane: Plane, api: Api, namespace: str, queues: Queues, tmp_path: Path, tasks: Tasks
) -> None:
    await queues.add("lq", {"nvidia.com/gpu": 0})
    ours = make_run("r", tmp_path, namespace, ["a"])
    notes = RecordingView()
    async with open_client(str(plane.kubeconfig)) as client:
        outcome = await asyncio.wait_for(
            drive_run(ours, write_run(ours), connection=client, clock=AcceleratedClock(), tasks=tasks, view=notes), 60
        )
    [failure] = outcome.failed
    assert (failure.stage, failure.kind, outcome.exit_code) == ("queue", "refused", 1)
    assert "maximum capacity" in failure.message
    assert any("can never be admitted" in trouble for tick in notes.statuses for trouble in tick.troubles)

    async def gone() -> bool:
        return await api.list(JOBS, namespace) == []

    await plane.until("its Job is deleted", gone)
    assert OutputFolder(tmp_path).load_failure("a") == failure
