"""The command as a process: closed standard output, and a folder without a run."""

from __future__ import annotations

import os
import subprocess
import sys


def epp_batch(*arguments, **other):
    return subprocess.run(
        (sys.executable, "-m", "epp_batch", *arguments),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        **other,
    )


def test_closed_stdout_ends_with_code_141():
    read, write = os.pipe()
    os.close(read)
    try:
        ended = epp_batch("queues", "--preset", "slots", "--namespace", "whisper", stdout=write)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_folder_without_a_run_is_an_error(tmp_path):
    ended = epp_batch("report", str(tmp_path), stdout=subprocess.DEVNULL)
    assert ended.returncode == 2
    assert ended.stderr.startswith("epp-batch report: ")
    assert "no run here; submit or transcribe" in ended.stderr
