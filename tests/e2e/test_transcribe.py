"""`epp-batch transcribe` and `epp-batch worker` as processes: real Whisper, real speech, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import jiwer
import msgspec
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from epp.clock import SystemClock
from epp_batch import timeline
from epp_batch.errors import Kind
from epp_batch.folder import Folder
from epp_batch.local.worker import Worker
from epp_batch.work import ORDER_VARIABLE, Options, Order, Recording, Task
from tests.speech import librivox, silence

pytestmark = pytest.mark.timeout(400)
COMMAND = (sys.executable, "-m", "epp_batch")
PATIENCE = 100.0
FAST = ("--batch-size", 2, "--beam-size", 1, "--no-word-timestamps")


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Six windows of speech, three batches of two: five sentences, six times."""
    path = tmp_path_factory.mktemp("speech") / "long.wav"
    joined(path, [source for source, _ in librivox()] * 6)
    return path


@pytest.fixture(scope="module")
def whole(long, tmp_path_factory):
    """Its transcript, made in one go."""
    folder = Folder(tmp_path_factory.mktemp("whole") / "out")
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


def joined(path, sources):
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        for source in sources:
            with wave.open(str(source), "rb") as file:
                out.writeframes(file.readframes(file.getnframes()) + bytes(16_000))


def transcribe(*arguments):
    return subprocess.run(
        (*COMMAND, "transcribe", *map(str, arguments)), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@contextlib.contextmanager
def running(*arguments, **other):
    """A command under way; killed at the end if it still runs."""
    process = subprocess.Popen(
        (*COMMAND, *map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **other
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(true, what):
    """Polls; the value of `true`, or a failed test after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {PATIENCE:g} s")


def children(pid):
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def under_way(folder, stem):
    """Whether at least one batch of a recording is written down and it is not finished."""
    path = folder.path(stem, "partial.jsonl")
    return path.exists() and b'"batch"' in path.read_bytes()


def order(folder, path, **other):
    options = Options(batch_size=2, beam_size=1, word_timestamps=False)
    task = Task(recording=Recording(source=str(path), stems=(path.stem,)), model="tiny.en")
    wanted = Order(run="r", unit="u", output=str(folder.root), options=options, tasks=(task,), threads=1, **other)
    return {**os.environ, ORDER_VARIABLE: msgspec.json.encode(wanted).decode(), "TERMINATION_LOG": f"{folder.root}.log"}


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_of_speech_good_and_bad(audio, tmp_path):
    folder = Folder(tmp_path / "out")
    first = transcribe(audio, "-o", folder.root)
    assert first.returncode == 1
    for name, stage in (("quiet.wav", "transcribe"), ("noise.mp3", "probe"), ("empty.wav", "probe")):
        told = [line for line in first.stderr.splitlines() if line.startswith(f"{audio / name}: {stage}: ")]
        assert len(told) == 1
        assert "; " in told[0]
        assert folder.failure(name.split(".")[0]).permanent
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
    events = timeline.read(folder.events_file)
    assert [event.kind for event in events if event.unit == events[-1].unit] == [
        "created", "admitted", "running", events[-1].kind,
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_worker_that_is_ended_halfway_goes_on_where_it_was(long, whole, tmp_path, number, code):
    halved = Folder(tmp_path / "halved")
    with running("worker", env=order(halved, long)) as process:
        until(lambda: under_way(halved, "long"), "a first batch")
        process.send_signal(number)
        assert process.wait(PATIENCE) == code
        assert "result" not in process.stdout.read()
    assert halved.failure("long") is None
    with running("worker", env=order(halved, long)) as process:
        assert process.wait(PATIENCE) == 0
        said = lines(process.stdout.read())
    result = halved.result("long")
    assert result.attempts == 2
    assert 0 < result.resumed_at < result.audio_seconds
    assert said[1]["progress"] == pytest.approx(result.resumed_at, abs=0.001)
    for suffix in ("json", "srt", "txt"):
        assert halved.path("long", suffix).read_bytes() == whole.path("long", suffix).read_bytes()
    assert sorted(path.name for path in halved.root.iterdir()) == sorted(path.name for path in whole.root.iterdir())
    note = json.loads(Path(f"{halved.root}.log").read_bytes())
    assert note["tasks"][-1]["key"] == result.key


def test_a_process_that_dies_takes_one_recording_with_it(long, tmp_path):
    folder = Folder(tmp_path / "out")
    short = librivox()[1][0]
    arguments = ("transcribe", long, short, "-o", folder.root, *FAST, "--processes", 1)
    with running(*arguments) as process:
        until(lambda: under_way(folder, "long"), "a first batch")
        (child,) = children(process.pid)
        os.kill(child, signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
    assert f"{long}: transcribe: the worker was killed by SIGKILL; {Kind.KILLED.remedy}" in errors.splitlines()
    assert folder.failure("long").kind == "killed"
    assert folder.result(short.stem) is not None
    assert transcribe(*arguments[1:]).returncode == 0
    assert folder.result("long").attempts == 2
    assert folder.result("long").resumed_at > 0
    assert folder.failure("long") is None


async def test_a_process_that_died_idle_is_replaced(tmp_path):
    folder, worker = Folder(tmp_path / "out"), Worker(0, tmp_path / "worker.log", {}, SystemClock())
    orders = [msgspec.json.decode(order(folder, source)[ORDER_VARIABLE], type=Order) for source, _ in librivox()[1:3]]
    results, before = [], set(children(os.getpid()))
    for wanted in orders:
        results += [line.result async for line in worker.lines(wanted) if line.result is not None]
        (child,) = set(children(os.getpid())) - before
        os.kill(child, signal.SIGKILL)
    await worker.close()
    assert [result.source for result in results] == [wanted.tasks[0].recording.source for wanted in orders]


def test_ctrl_c_keeps_what_is_done(long, tmp_path):
    folder = Folder(tmp_path / "out")
    arguments = ("transcribe", long, "-o", folder.root, *FAST)
    with running(*arguments) as process:
        until(lambda: under_way(folder, "long"), "a first batch")
        pids = children(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert errors.splitlines()[-1] == "epp-batch transcribe: stopped; the same command goes on"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert timeline.read(folder.events_file)[-1].kind == "cancelled"
    assert transcribe(*arguments[1:]).returncode == 0
    assert folder.result("long").resumed_at > 0


def test_workers_do_not_outlive_their_command(long, tmp_path):
    folder = Folder(tmp_path / "out")
    with running("transcribe", long, "-o", folder.root, *FAST) as process:
        until(lambda: under_way(folder, "long"), "a first batch")
        (child,) = children(process.pid)
        process.kill()
        process.wait()
    until(lambda: not Path(f"/proc/{child}").exists(), "the end of the worker")
    assert folder.failure("long") is None


def test_a_second_command_in_the_same_folder_waits_for_no_one(long, tmp_path):
    folder = Folder(tmp_path / "out")
    with running("transcribe", long, "-o", folder.root) as process:
        until(folder.run_file.exists, "the first command's run")
        second = transcribe(long, "-o", folder.root)
        assert second.returncode == 2
        assert "another command is at work here" in second.stderr
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def test_a_full_disk(long, tmp_path):
    """A limit on the size of files is what an unprivileged test has of a full disk: EFBIG, midway in a write."""
    folder = Folder(tmp_path / "out")

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    with running("worker", env=order(folder, long), preexec_fn=small_files) as process:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == Kind.DISK_FULL.code
    assert errors == f"{long}: transcribe: File too large; {Kind.DISK_FULL.remedy}\n"
    assert lines(output)[-1]["failure"]["kind"] == folder.failure("long").kind == "disk_full"


def on_a_disk(folder, script, **environment):
    """Runs a shell script where `folder` is a file system of 40 kB that no other process sees."""
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    mount = f"mount -t tmpfs -o size=40k tmpfs {folder}"
    if subprocess.run((*namespace, mount), capture_output=True, check=False).returncode:
        pytest.skip("mounting in a user namespace is not allowed here")
    return subprocess.run(
        (*namespace, f"{mount}\n{script}"), capture_output=True, text=True, timeout=4 * PATIENCE, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_disk_that_fills_up_and_gets_more_room(tmp_path):
    folder = Folder(tmp_path / "disk" / "out")
    (tmp_path / "disk").mkdir()
    sources = [source for source, _ in librivox()]
    command = " ".join(map(str, (*COMMAND, "transcribe", *sources, "-o", folder.root, *FAST)))
    more = f"mount -o remount,size=8m {tmp_path}/disk"
    ended = on_a_disk(tmp_path / "disk", f"{command}; test $? = 1 && {more} && {command}")
    assert ended.returncode == 0
    told = ended.stderr.splitlines()
    assert all(line.endswith(f": No space left on device; {Kind.DISK_FULL.remedy}") for line in told)
    assert 1 <= len(told) <= len(sources)
    assert ended.stdout.splitlines()[-1].startswith("5 of 5 done")
    assert sum("finished on" in line for line in ended.stdout.splitlines()) == len(sources)


def test_a_read_only_output(tmp_path):
    (tmp_path / "disk").mkdir()
    environment = order(Folder(tmp_path / "disk" / "out"), librivox()[0][0])
    command = " ".join((*COMMAND, "worker"))
    ended = on_a_disk(tmp_path / "disk", f"mount -o remount,ro {tmp_path}/disk\n{command}", **environment)
    assert ended.returncode == Kind.UNWRITABLE.code
    assert ended.stderr.endswith(f"Read-only file system; {Kind.UNWRITABLE.remedy}\n")


def test_too_little_memory(tmp_path):
    """Too little to load the model and use it; the limit is on addresses, so that no other process suffers."""
    folder, path = Folder(tmp_path / "out"), librivox()[0][0]

    def little_memory():
        resource.setrlimit(resource.RLIMIT_AS, (550 << 20, 550 << 20))

    environment = order(folder, path) | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with running("worker", env=environment, preexec_fn=little_memory) as process:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == Kind.MEMORY.code
    assert errors.splitlines()[-1].endswith(f"; {Kind.MEMORY.remedy}")
    assert folder.failure(path.stem).kind == "memory"


def test_a_worker_without_its_order():
    ended = subprocess.run((*COMMAND, "worker"), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("epp-batch worker: EPP_BATCH_ORDER is not set; ")


def test_an_order_of_another_version(tmp_path):
    environment = {**os.environ, ORDER_VARIABLE: '{"run": "r"}'}
    ended = subprocess.run(
        (*COMMAND, "worker"), capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
    )
    assert ended.returncode == 2
    assert "unit" in ended.stderr
