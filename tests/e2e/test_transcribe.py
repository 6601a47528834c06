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
from tests.speech import librivox, silence
from tests.transcribing import COMMAND, FAST, PATIENCE, children, lines, order, running, transcribe, under_way, until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def whole(long, tmp_path_factory):
    """Its transcript, made in one go."""
    folder = OutputFolder(tmp_path_factory.mktemp("whole") / "out")
    with running("worker", env=order(folder, long)) as process:
        assert process.wait(PATIENCE) == 0
    return folder


@pytest.fixture
def audio(tmp_path):
    """A folder of recordings, good and bad."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for source, _ in librivox():
        (folder / source.name).symlink_to(source)
    (folder / "again.wav").write_bytes(librivox()[0][0].read_bytes())
    silence(3, folder / "quiet.wav")
    (folder / "noise.mp3").write_bytes(os.urandom(30_000))
    (folder / "empty.wav").write_bytes(b"")
    return folder


def test_a_folder_of_speech_good_and_bad(audio, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    first = transcribe(audio, "-o", folder.root)
    assert first.returncode == 1
    for name, stage in (("quiet.wav", "transcribe"), ("noise.mp3", "probe"), ("empty.wav", "probe")):
        told = [line for line in first.stderr.splitlines() if line.startswith(f"{audio / name}: {stage}: ")]
        assert len(told) == 1
        assert "; " in told[0]
        assert folder.load_failure(name.split(".")[0]).permanent
    normal = EnglishTextNormalizer()
    said = {source.stem: normal(text) for source, text in librivox()}
    heard = {stem: normal(folder.path(stem, "txt").read_text()) for stem in said}
    assert jiwer.wer(list(said.values()), [heard[stem] for stem in said]) < 0.15
    assert os.path.samefile(folder.path("again", "txt"), folder.path(librivox()[0][0].stem, "txt"))
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


def test_a_worker_hears_a_signal_that_another_of_its_threads_takes(long, tmp_path):
    """As the kernel gives it to any of them when the process was stopped as it came."""
    folder = OutputFolder(tmp_path / "out")
    with running("worker", env=order(folder, long)) as process:
        until(lambda: under_way(folder, "long"), "a first batch")
        other = max(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())
        assert other != process.pid
        ctypes.CDLL(None).tgkill(process.pid, other, signal.SIGTERM)
        assert process.wait(PATIENCE) == 143


def test_a_worker_that_is_told_twice_leaves_at_once(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    with running("worker", env=order(folder, long)) as process:
        until(lambda: under_way(folder, "long"), "a first batch")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143
        assert "Traceback" not in process.stderr.read()
    assert under_way(folder, "long")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_worker_that_is_ended_halfway_goes_on_where_it_was(long, whole, tmp_path, number, code):
    halved = OutputFolder(tmp_path / "halved")
    with running("worker", env=order(halved, long)) as process:
        until(lambda: under_way(halved, "long"), "a first batch")
        process.send_signal(number)
        assert process.wait(PATIENCE) == code
        assert "result" not in process.stdout.read()
    assert halved.load_failure("long") is None
    with running("worker", env=order(halved, long)) as process:
        assert process.wait(PATIENCE) == 0
        said = lines(process.stdout.read())
    result = halved.load_result("long")
    assert result.attempts == 2
    assert 0 < result.resumed_at < result.audio_seconds
    assert said[1]["progress"] == pytest.approx(result.resumed_at, abs=0.001)
    for suffix in ("json", "srt", "txt"):
        assert halved.path("long", suffix).read_bytes() == whole.path("long", suffix).read_bytes()
    assert sorted(path.name for path in halved.root.iterdir()) == sorted(path.name for path in whole.root.iterdir())
    note = json.loads(Path(f"{halved.root}.log").read_bytes())
    assert note["tasks"][-1]["key"] == result.key


def test_a_process_that_dies_takes_one_recording_with_it(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    short = librivox()[1][0]
    arguments = ("transcribe", long, short, "-o", folder.root, *FAST, "--processes", 1)
    with running(*arguments) as process:
        until(lambda: under_way(folder, "long"), "a first batch")
        (child,) = children(process.pid)
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


def test_a_failure_beside_it_fails_no_good_recording(tmp_path):
    quiet, speech = silence(3, tmp_path / "quiet.wav"), librivox()[0][0]
    done = transcribe(quiet, speech, "--output", tmp_path / "out", "--processes", 2, "--order", "submission", *FAST)
    assert done.returncode == 1, done.stderr
    ends = {event.unit: event.kind for event in timeline.read_events(OutputFolder(tmp_path / "out").events_file)}
    assert sorted(ends.values()) == ["failed", "finished"]


async def test_a_process_that_died_idle_is_replaced(tmp_path):
    folder, worker = OutputFolder(tmp_path / "out"), WorkerProcess(0, tmp_path / "worker.log", {}, SystemClock())
    orders = [
        msgspec.json.decode(order(folder, source)[WORK_ORDER_VARIABLE], type=WorkOrder) for source, _ in librivox()[1:3]
    ]
    results, before = [], set(children(os.getpid()))
    for wanted in orders:
        results += [line.result async for line in worker.run_order(wanted) if line.result is not None]
        (child,) = set(children(os.getpid())) - before
        os.kill(child, signal.SIGKILL)
    await worker.close()
    assert [result.source for result in results] == [wanted.tasks[0].recording.source for wanted in orders]


def test_ctrl_c_keeps_what_is_done(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    arguments = ("transcribe", long, "-o", folder.root, *FAST)
    with running(*arguments) as process:
        until(lambda: under_way(folder, "long"), "a first batch")
        pids = children(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert errors.splitlines()[-1] == "epp-batch transcribe: stopped; the same command goes on"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert timeline.read_events(folder.events_file)[-1].kind == "cancelled"
    assert transcribe(*arguments[1:]).returncode == 0
    assert folder.load_result("long").resumed_at > 0


def test_workers_do_not_outlive_their_command(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    with running("transcribe", long, "-o", folder.root, *FAST) as process:
        until(lambda: under_way(folder, "long"), "a first batch")
        (child,) = children(process.pid)
        process.kill()
        process.wait()
    until(lambda: not Path(f"/proc/{child}").exists(), "the end of the worker")
    assert folder.load_failure("long") is None


def test_a_second_command_in_the_same_folder_waits_for_no_one(long, tmp_path):
    folder = OutputFolder(tmp_path / "out")
    with running("transcribe", long, "-o", folder.root) as process:
        until(folder.run_file.exists, "the first command's run")
        second = transcribe(long, "-o", folder.root)
        assert second.returncode == 2
        assert "another command is at work here" in second.stderr
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def test_a_worker_without_its_order():
    ended = subprocess.run((*COMMAND, "worker"), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("epp-batch worker: EPP_BATCH_ORDER is not set; ")


def test_an_order_of_another_version(tmp_path):
    environment = {**os.environ, WORK_ORDER_VARIABLE: '{"run": "r"}'}
    ended = subprocess.run(
        (*COMMAND, "worker"), capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
    )
    assert ended.returncode == 2
    assert "unit" in ended.stderr
