"""The whole batch stage with a real control plane: speech, Kueue, Whisper as a process, the gateway, summaries."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import jiwer
import pytest
import pytest_asyncio
from whisper_normalizer.english import EnglishTextNormalizer

from epp.clock import SystemClock
from epp_batch.demo.speech import synthesize_speech
from epp_batch.demo.talks import DEMO_TALKS
from epp_batch.manifests.queues import build_kueue_objects, build_manager_configuration, build_preset
from epp_batch.output_folder import OutputFolder, TranscriptionResult, load_struct
from epp_batch.summaries import Summary
from epp_batch.timeline import read_events
from tests.gateway import run_epp_up
from tests.kube.cluster.client import JOBS, KubeApi
from tests.kube.cluster.container_process import ContainerProcess
from tests.kube.cluster.mig import A100_40
from tests.kube.cluster.node_agent import AgentNode, NodeAgent
from tests.kube.cluster.plane import ControlPlane, NotReady
from tests.kube.cluster.queues import Queues
from tests.speech import synthesize_wav

pytestmark = pytest.mark.timeout(300)

GPU = {"nvidia.com/gpu": 1}
WORKER = {"epp-batch": (sys.executable, "-m", "epp_batch")}
LIFE = ["created", "queued", "reserved", "admitted", "running", "finished"]
SPEECH_SECONDS = 120.0


class Submit:
    """Starts `epp-batch submit` of a folder of audio as a process."""

    def __init__(self, plane: ControlPlane, namespace: str, root: Path) -> None:
        self._plane, self._namespace, self._root = plane, namespace, root

    async def __call__(self, audio: Path, output: Path, *more: str) -> Process:
        words = (
            "submit", str(audio), f"--output={output}", f"--kubeconfig={self._plane.kubeconfig}",
            f"--namespace={self._namespace}", "--image=registry.example/epp-batch:1", "--model=tiny.en",
            f"--volume=host{self._root}={self._root}", "--order=submission", "--json", *more,
        )  # fmt: skip
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "epp_batch", *words, stdout=PIPE, stderr=PIPE)


@pytest.fixture
def submit(plane: ControlPlane, namespace: str, tmp_path: Path) -> Submit:
    return Submit(plane, namespace, tmp_path)


def synthesize_talks(folder: Path, count: int) -> Path:
    """Synthesizes the first talks of the demo into a folder, each with its voice and rate as in the demo."""
    folder.mkdir()
    for talk in DEMO_TALKS[:count]:
        synthesize_speech(talk.text, folder / f"{talk.name}.wav", voice=talk.voice)
    return folder


def word_error_rate(reference: str, folder: OutputFolder, stem: str) -> float:
    """Word error rate under the normaliser that published rates use."""
    normal = EnglishTextNormalizer()
    return jiwer.wer(normal(reference), normal(folder.path(stem, "txt").read_text()))


def has_partial_text(partial: Path) -> Callable[[], Awaitable[bool]]:
    """Whether the partial file has a batch: its first two lines are the plan and the attempt."""

    async def look() -> bool:
        if not partial.exists() or partial.read_bytes().count(b"\n") < 3:
            raise NotReady(partial)
        return True

    return look


def has_event(folder: OutputFolder, kind: str) -> Callable[[], Awaitable[bool]]:
    """Returns once the timeline has an event of that kind."""

    async def look() -> bool:
        recorded = [event.kind for event in read_events(folder.events_file)]
        if kind not in recorded:
            raise NotReady(recorded)
        return True

    return look


def told_to_end(container: ContainerProcess) -> Callable[[], Awaitable[bool]]:
    """Whether its node has sent SIGTERM."""

    async def look() -> bool:
        return container.is_terminating

    return look


async def wait_for_success(process: Process) -> None:
    output, complaints = await process.communicate()
    assert process.returncode == 0, output.decode() + complaints.decode()


async def test_speech_to_summaries_through_kueue(
    api: KubeApi, namespace: str, queues: Queues, process_nodes, submit: Submit, tmp_path: Path
) -> None:
    await process_nodes(1, GPU, WORKER)
    await queues.add_queue("lq", GPU)
    audio, folder = synthesize_talks(tmp_path / "audio", 3), OutputFolder(tmp_path / "out")
    async with run_epp_up("--sim=2") as gateway:
        words = (audio, folder.root, "--queue=lq", f"--summarize={gateway.matched}", "--summary-max-tokens=12")
        await wait_for_success(await submit(*words))
        jobs = await api.list(JOBS, namespace)
        await wait_for_success(await submit(*words))
    run, events = folder.load_run(), read_events(folder.events_file)
    assert sorted(task.stem for task in run.list_tasks()) == sorted(talk.name for talk in DEMO_TALKS[:3])
    for unit in run.units:
        stem = unit.tasks[0].stem
        done = folder.find_finished_result(unit.tasks[0], run.options)
        assert done is not None
        assert word_error_rate(next(talk.text for talk in DEMO_TALKS if talk.name == stem), folder, stem) < 0.2
        made = load_struct(folder.path(stem, "summary.json"), Summary)
        assert made is not None
        assert (made.url, made.completion_tokens) == (gateway.matched, 12)
        recorded = [event for event in events if event.unit == unit.name and event.kind != "refused"]
        # the transcript may be summarized before its Job is reported as complete
        assert [event.kind for event in recorded if event.kind in LIFE] == LIFE
        assert [event.kind for event in recorded if event.kind not in LIFE] == [
            "summarizing",
            "first-token",
            "summarized",
        ]
        assert [event.kind for event in recorded][: len(LIFE) - 1] == LIFE[:-1]
        assert next(event.place for event in recorded if event.kind == "running") == f"{namespace}-p0"
    assert min(e.at for e in events if e.kind == "summarized") < max(e.at for e in events if e.kind == "finished")
    again = await api.list(JOBS, namespace)
    assert [job["metadata"]["uid"] for job in again] == [job["metadata"]["uid"] for job in jobs]


async def test_preempted_transcription_resumes(
    plane: ControlPlane, namespace: str, queues: Queues, process_nodes, submit: Submit, tmp_path: Path
) -> None:
    agent = await process_nodes(1, GPU, WORKER)
    await queues.add_queue("lq", GPU, preemption={"withinClusterQueue": "LowerPriority"})
    urgent = await queues.add_priority_class("urgent", 1000)
    text = " ".join(talk.text for talk in DEMO_TALKS * 2)
    long, folder = tmp_path / "long", OutputFolder(tmp_path / "long-out")
    long.mkdir()
    synthesize_wav(text, long / "report.wav")
    slow = await submit(long, folder.root, "--queue=lq", "--batch-size=2")
    await plane.wait_until(
        "some of it is transcribed", has_partial_text(folder.path("report", "partial.jsonl")), SPEECH_SECONDS
    )
    (victim,) = agent.list_running_pods(f"{namespace}-p0")
    container = victim.find_container("worker")
    worker = container.process
    worker.send_signal(signal.SIGSTOP)  # so that it cannot finish before it is preempted
    short, quick = synthesize_talks(tmp_path / "short", 1), OutputFolder(tmp_path / "short-out")
    fast = await submit(short, quick.root, "--queue=lq", f"--priority-class={urgent}")
    try:
        await plane.wait_until("it is preempted", has_event(folder, "evicted"), SPEECH_SECONDS)
        await plane.wait_until("its SIGTERM is sent", told_to_end(container), SPEECH_SECONDS)
    finally:
        worker.send_signal(signal.SIGCONT)
    await wait_for_success(fast)
    await wait_for_success(slow)
    result = load_struct(folder.path("report", "done.json"), TranscriptionResult)
    assert result is not None
    assert result.attempts == 2
    assert 0 < result.resumed_at < result.audio_seconds
    assert not folder.path("report", "partial.jsonl").exists()
    assert word_error_rate(text, folder, "report") < 0.15, "no text is missing or duplicated"
    events = read_events(folder.events_file)
    evicted = next(event for event in events if event.kind == "evicted")
    assert evicted.detail.startswith("Preempted")
    (urgent_run,) = (event for event in read_events(quick.events_file) if event.kind == "running")
    _, resumed = (event for event in events if event.kind == "running")
    assert evicted.at <= urgent_run.at <= resumed.at


async def test_whisper_on_mig_slices_allocated_by_the_scheduler(
    plane: ControlPlane, api: KubeApi, namespace: str, sliced_queue: str, submit: Submit, tmp_path: Path
) -> None:
    node = AgentNode(f"{namespace}-mig", labels={"test": namespace, "nvidia.com/gpu.present": "true"}, gpus=(A100_40,))
    agent = NodeAgent(plane.kubeconfig, plane.pki, tmp_path / "agent", [node], clock=SystemClock(), entrypoints=WORKER)
    audio, folder = synthesize_talks(tmp_path / "audio", 3), OutputFolder(tmp_path / "out")
    held: list[list[str]] = []
    async with agent:
        words = (f"--queue={sliced_queue}", "--accelerator=dra:3g.20gb", f"--node-selector=test={namespace}")
        process = await submit(audio, folder.root, *words)
        looking = asyncio.get_running_loop().create_task(record_devices(agent, node.name, held))
        try:
            await wait_for_success(process)
        finally:
            looking.cancel()
    run = folder.load_run()
    assert all(folder.find_finished_result(task, run.options) is not None for task in run.list_tasks())
    assert sorted(max(held, key=len)) == ["gpu-0-mig-3g20gb-9-0", "gpu-0-mig-3g20gb-9-4"]
    assert all(len(set(devices)) == len(devices) for devices in held)


async def record_devices(agent: NodeAgent, node: str, held: list[list[str]]) -> None:
    """Records repeatedly which devices the node's processes were assigned."""
    while True:
        processes = [run.find_container("worker") for run in agent.list_running_pods(node)]
        given = [read_environment(each.process.pid) for each in processes if each is not None and each.is_running]
        held.append([variables["NVIDIA_VISIBLE_DEVICES"] for variables in given if variables])
        await asyncio.sleep(0.1)


def read_environment(pid: int) -> dict[str, str]:
    """The environment of a process; empty if it has ended."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


@pytest_asyncio.fixture
async def sliced_queue(plane: ControlPlane, api: KubeApi, namespace: str) -> AsyncIterator[str]:
    """A LocalQueue over one GPU by the memory of its slices, as `epp-batch queues --preset dra` makes it."""
    settings = build_preset("dra", namespace, 1).with_prefix(f"{namespace}-")
    async with plane.with_kueue_configuration(resources=build_manager_configuration(settings)["resources"]):
        made = [await api.create(document) for document in build_kueue_objects(settings)]
        yield settings.queues[0].local_queues[0]
        await api.request("DELETE", JOBS.path(namespace), {"propagationPolicy": "Background"})
        for document in reversed(made):
            if not document["metadata"].get("namespace"):
                await api.delete(await api.find_resource(document), document["metadata"]["name"])
