"""`epp-batch transcribe` and `epp-batch worker` as processes: real Whisper, real speech, real signals."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
from pathlib import Path

import jiwer
import msgspec
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from epp.clock import SystemClock
from epp_batch import timeline
from epp_batch.errors import FailureKind
from epp_batch.local.worker_process import WorkerProcess
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import WORK_ORDER_VARIABLE, WorkOrder
from tests.speech import load_librivox_sentences, write_silent_wav
from tests.transcribing import (
    COMMAND,
    FAST,
    PATIENCE,
    build_order_environment,
    has_partial_batch,
    list_children,
    parse_lines,
    running_command,
    transcribe,
    wait_until,
)

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def uninterrupted(long, tmp_path_factory):
    """The output folder of an uninterrupted transcription of `long`."""
    folder = OutputFolder(tmp_path_factory.mktemp("uninterrupted") / "out")
    with running_command("worker", env=build_order_environment(folder, long)) as process:
        assert process.wait(PATIENCE) == 0
    return folder


@pytest.fixture
def audio(tmp_path):
    """A folder of recordings, good and bad."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for source, _ in load_librivox_sentences():
        (folder / source.name).symlink_to(source)
    (folder / "again.wav").write_bytes(load_librivox_sentences()[0][0].read_bytes())
    write_silent_wav(3, folder / "quiet.wav")
    (folder / "noise.mp3").write_bytes(os.urandom(30_000))
    (folder / "empty.wav").write_bytes(b"")
    return folder


def test_folder_with_good_and_bad_recordings(audio, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    first = transcribe(audio, "-o", folder.root)
    assert first.returncode == 1
    for name, stage in (("quiet.wav", "transcribe"), ("noise.mp3", "probe"), ("empty.wav", "probe")):
        lines = [line for line in first.stderr.splitlines() if line.startswith(f"{audio / name}: {stage}: ")]
        assert len(lines) == 1
        assert "; " in lines[0]
        assert folder.load_failure(name.split(".")[0]).permanent
    normal = EnglishTextNormalizer()
    references = {source.stem: normal(text) for source, text in load_librivox_sentences()}
    transcripts = {stem: normal(folder.path(stem, "txt").read_text()) for stem in references}
    assert jiwer.wer(list(references.values()), [transcripts[stem] for stem in references]) < 0.15
    assert os.path.samefile(folder.path("again", "txt"), folder.path(load_librivox_sentences()[0][0].stem, "txt"))
    before = {path: path.stat().st_mtime_ns for path in folder.root.glob("*.done.json")}
    assert len(before) == 6
    second = transcribe(audio, "-o", folder.root)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-3:] == first.stderr.splitlines()[-3:]
    assert {path: path.stat().st_mtime_ns for path in folder.root.glob("*.done.json")} == before
    events = timeline.read_events(folder.events_file)
    assert [event.kind for event in events if event.unit == events[-1].unit] == [
        "created", "admitted", "running", events[-1].kind,
    ]  # fmt: skip


def test_worker_handles_a_signal_delivered_to_another_thread(long, tmp_path):
    """The kernel may choose any thread, for example if the process was stopped when the signal was sent."""
    folder = OutputFolder(tmp_path / "out")
    with running_command("worker", env=build_order_environment(folder, long)) as process:
        wait_until(lambda: has_partial_batch(folder, "long"), "a first batch")
        other = max(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())
        assert other != process.pid
        ctypes.CDLL(None).tgkill(process.pid, other, signal.SIGTERM)
        assert process.wait(PATIENCE) == 143


def test_second_signal_ends_the_worker_immediately(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    with running_command("worker", env=build_order_environment(folder, long)) as process:
        wait_until(lambda: has_partial_batch(folder, "long"), "a first batch")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143
        assert "Traceback" not in process.stderr.read()
    assert has_partial_batch(folder, "long")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_interrupted_worker_resumes_its_partial_file(long, uninterrupted, tmp_path, number, code):
    halved = OutputFolder(tmp_path / "halved")
    with running_command("worker", env=build_order_environment(halved, long)) as process:
        wait_until(lambda: has_partial_batch(halved, "long"), "a first batch")
        process.send_signal(number)
        assert process.wait(PATIENCE) == code
        assert "result" not in process.stdout.read()
    assert halved.load_failure("long") is None
    with running_command("worker", env=build_order_environment(halved, long)) as process:
        assert process.wait(PATIENCE) == 0
        messages = parse_lines(process.stdout.read())
    result = halved.load_result("long")
    assert result.attempts == 2
    assert 0 < result.resumed_at < result.audio_seconds
    assert messages[1]["progress"] == pytest.approx(result.resumed_at, abs=0.001)
    for suffix in ("json", "srt", "txt"):
        assert halved.path("long", suffix).read_bytes() == uninterrupted.path("long", suffix).read_bytes()
    assert sorted(path.name for path in halved.root.iterdir()) == sorted(
        path.name for path in uninterrupted.root.iterdir()
    )
    note = json.loads(Path(f"{halved.root}.log").read_bytes())
    assert note["tasks"][-1]["key"] == result.key


def test_killed_worker_fails_one_recording_only(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    short = load_librivox_sentences()[1][0]
    arguments = ("transcribe", long, short, "-o", folder.root, *FAST, "--processes", 1)
    with running_command(*arguments) as process:
        wait_until(lambda: has_partial_batch(folder, "long"), "a first batch")
        (child,) = list_children(process.pid)
        os.kill(child, signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
    assert f"{long}: transcribe: the worker was killed by SIGKILL; {FailureKind.KILLED.remedy}" in errors.splitlines()
    assert folder.load_failure("long").kind == "killed"
    assert folder.load_result(short.stem) is not None
    assert transcribe(*arguments[1:]).returncode == 0
    assert folder.load_result("long").attempts == 2
    assert folder.load_result("long").resumed_at > 0
    assert folder.load_failure("long") is None


def test_failure_does_not_affect_other_recordings(tmp_path):
    quiet, speech = write_silent_wav(3, tmp_path / "quiet.wav"), load_librivox_sentences()[0][0]
    done = transcribe(quiet, speech, "--output", tmp_path / "out", "--processes", 2, "--order", "submission", *FAST)
    assert done.returncode == 1, done.stderr
    ends = {event.unit: event.kind for event in timeline.read_events(OutputFolder(tmp_path / "out").events_file)}
    assert sorted(ends.values()) == ["failed", "finished"]


async def test_idle_worker_that_died_is_replaced(tmp_path):
    folder, worker = OutputFolder(tmp_path / "out"), WorkerProcess(0, tmp_path / "worker.log", {}, SystemClock())
    orders = [
        msgspec.json.decode(build_order_environment(folder, source)[WORK_ORDER_VARIABLE], type=WorkOrder)
        for source, _ in load_librivox_sentences()[1:3]
    ]
    results, before = [], set(list_children(os.getpid()))
    for wanted in orders:
        results += [line.result async for line in worker.run_order(wanted) if line.result is not None]
        (child,) = set(list_children(os.getpid())) - before
        os.kill(child, signal.SIGKILL)
    await worker.close()
    assert [result.source for result in results] == [wanted.tasks[0].recording.source for wanted in orders]


def test_ctrl_c_keeps_finished_batches(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    arguments = ("transcribe", long, "-o", folder.root, *FAST)
    with running_command(*arguments) as process:
        wait_until(lambda: has_partial_batch(folder, "long"), "a first batch")
        pids = list_children(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert errors.splitlines()[-1] == "epp-batch transcribe: stopped; the same command continues it"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert timeline.read_events(folder.events_file)[-1].kind == "cancelled"
    assert transcribe(*arguments[1:]).returncode == 0
    assert folder.load_result("long").resumed_at > 0


def test_workers_end_when_their_command_is_killed(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    with running_command("transcribe", long, "-o", folder.root, *FAST) as process:
        wait_until(lambda: has_partial_batch(folder, "long"), "a first batch")
        (child,) = list_children(process.pid)
        process.kill()
        process.wait()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the end of the worker")
    assert folder.load_failure("long") is None


def test_second_command_in_the_same_folder_is_rejected(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    with running_command("transcribe", long, "-o", folder.root) as process:
        wait_until(folder.run_file.exists, "the first command's run")
        second = transcribe(long, "-o", folder.root)
        assert second.returncode == 2
        assert "another command is at work here" in second.stderr
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def test_worker_without_a_work_order():
    ended = subprocess.run((*COMMAND, "worker"), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("epp-batch worker: EPP_BATCH_ORDER is not set; ")


def test_work_order_of_another_version(tmp_path):
    environment = {**os.environ, WORK_ORDER_VARIABLE: '{"run": "r"}'}
    ended = subprocess.run(
        (*COMMAND, "worker"), capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
    )
    assert ended.returncode == 2
    assert "unit" in ended.stderr
