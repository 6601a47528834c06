"""Full and read-only disks, and too little memory, with real Whisper."""

from __future__ import annotations

import os
import resource
import subprocess

import pytest

from epp_batch.errors import FailureKind
from epp_batch.output_folder import OutputFolder
from tests.speech import load_librivox_sentences
from tests.transcribing import COMMAND, FAST, PATIENCE, build_order_environment, parse_lines, running_command

pytestmark = pytest.mark.timeout(400)


def test_full_disk_while_writing(long, tmp_path):
    """Simulates a full disk with RLIMIT_FSIZE, which needs no privileges: a write fails with EFBIG midway."""
    folder = OutputFolder(tmp_path / "out")

    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    with running_command("worker", env=build_order_environment(folder, long), preexec_fn=limit_file_size) as process:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == FailureKind.DISK_FULL.exit_code
    assert errors == f"{long}: transcribe: File too large; {FailureKind.DISK_FULL.remedy}\n"
    assert parse_lines(output)[-1]["failure"]["kind"] == folder.load_failure("long").kind == "disk_full"


def run_on_small_disk(folder, script, **environment):
    """Runs a shell script with a 40 kB tmpfs mounted at `folder`, in a mount namespace of its own."""
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    mount = f"mount -t tmpfs -o size=40k tmpfs {folder}"
    if subprocess.run((*namespace, mount), capture_output=True, check=False).returncode:
        pytest.skip("mounting in a user namespace is not allowed here")
    return subprocess.run(
        (*namespace, f"{mount}\n{script}"), capture_output=True, text=True, timeout=4 * PATIENCE, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_run_resumes_after_a_full_disk_gets_more_room(tmp_path):
    folder = OutputFolder(tmp_path / "disk" / "out")
    (tmp_path / "disk").mkdir()
    sources = [source for source, _ in load_librivox_sentences()]
    command = " ".join(map(str, (*COMMAND, "transcribe", *sources, "-o", folder.root, *FAST)))
    more = f"mount -o remount,size=8m {tmp_path}/disk"
    ended = run_on_small_disk(tmp_path / "disk", f"{command}; test $? = 1 && {more} && {command}")
    assert ended.returncode == 0
    messages = ended.stderr.splitlines()
    assert all(line.endswith(f": No space left on device; {FailureKind.DISK_FULL.remedy}") for line in messages)
    assert 1 <= len(messages) <= len(sources)
    assert ended.stdout.splitlines()[-1].startswith("5 of 5 done")
    assert sum("finished on" in line for line in ended.stdout.splitlines()) == len(sources)


def test_read_only_output(tmp_path):
    (tmp_path / "disk").mkdir()
    environment = build_order_environment(OutputFolder(tmp_path / "disk" / "out"), load_librivox_sentences()[0][0])
    command = " ".join((*COMMAND, "worker"))
    ended = run_on_small_disk(tmp_path / "disk", f"mount -o remount,ro {tmp_path}/disk\n{command}", **environment)
    assert ended.returncode == FailureKind.UNWRITABLE.exit_code
    assert ended.stderr.endswith(f"Read-only file system; {FailureKind.UNWRITABLE.remedy}\n")


def test_too_little_memory(tmp_path):
    """RLIMIT_AS too small to load the model: CTranslate2's allocation fails.

    430 MiB is the middle of the range in which exactly that fails (320 to 530 MiB with the pinned libraries). Below it
    decoding fails first; above 600 MiB the model fits, and onnxruntime crashes for lack of memory instead of raising.
    """
    folder, path = OutputFolder(tmp_path / "out"), load_librivox_sentences()[0][0]

    def limit_memory():
        resource.setrlimit(resource.RLIMIT_AS, (430 << 20, 430 << 20))

    environment = build_order_environment(folder, path) | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with running_command("worker", env=environment, preexec_fn=limit_memory) as process:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == FailureKind.MEMORY.exit_code
    assert errors.splitlines()[-1].endswith(f"; {FailureKind.MEMORY.remedy}")
    failure = folder.load_failure(path.stem)
    assert (failure.kind, failure.stage) == ("memory", "load")
