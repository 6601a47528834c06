"""Disks that are full or read-only, and too little memory, under real Whisper."""

from __future__ import annotations

import os
import resource
import subprocess

import pytest

from epp_batch.errors import FailureKind
from epp_batch.output_folder import OutputFolder
from tests.speech import librivox
from tests.transcribing import COMMAND, FAST, PATIENCE, lines, order, running

pytestmark = pytest.mark.timeout(400)


def test_a_full_disk(long, tmp_path):
    """A limit on the size of files is what an unprivileged test has of a full disk: EFBIG, midway in a write."""
    folder = OutputFolder(tmp_path / "out")

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    with running("worker", env=order(folder, long), preexec_fn=small_files) as process:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == FailureKind.DISK_FULL.exit_code
    assert errors == f"{long}: transcribe: File too large; {FailureKind.DISK_FULL.remedy}\n"
    assert lines(output)[-1]["failure"]["kind"] == folder.load_failure("long").kind == "disk_full"


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
    folder = OutputFolder(tmp_path / "disk" / "out")
    (tmp_path / "disk").mkdir()
    sources = [source for source, _ in librivox()]
    command = " ".join(map(str, (*COMMAND, "transcribe", *sources, "-o", folder.root, *FAST)))
    more = f"mount -o remount,size=8m {tmp_path}/disk"
    ended = on_a_disk(tmp_path / "disk", f"{command}; test $? = 1 && {more} && {command}")
    assert ended.returncode == 0
    told = ended.stderr.splitlines()
    assert all(line.endswith(f": No space left on device; {FailureKind.DISK_FULL.remedy}") for line in told)
    assert 1 <= len(told) <= len(sources)
    assert ended.stdout.splitlines()[-1].startswith("5 of 5 done")
    assert sum("finished on" in line for line in ended.stdout.splitlines()) == len(sources)


def test_a_read_only_output(tmp_path):
    (tmp_path / "disk").mkdir()
    environment = order(OutputFolder(tmp_path / "disk" / "out"), librivox()[0][0])
    command = " ".join((*COMMAND, "worker"))
    ended = on_a_disk(tmp_path / "disk", f"mount -o remount,ro {tmp_path}/disk\n{command}", **environment)
    assert ended.returncode == FailureKind.UNWRITABLE.exit_code
    assert ended.stderr.endswith(f"Read-only file system; {FailureKind.UNWRITABLE.remedy}\n")


def test_too_little_memory(tmp_path):
    """Too little address space to load the model. With a few MB more onnxruntime crashes instead of raising."""
    folder, path = OutputFolder(tmp_path / "out"), librivox()[0][0]

    def little_memory():
        resource.setrlimit(resource.RLIMIT_AS, (480 << 20, 480 << 20))

    environment = order(folder, path) | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with running("worker", env=environment, preexec_fn=little_memory) as process:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == FailureKind.MEMORY.exit_code
    assert errors.splitlines()[-1].endswith(f"; {FailureKind.MEMORY.remedy}")
    assert folder.load_failure(path.stem).kind == "memory"
