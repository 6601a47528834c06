"""`epp-batch` as a process: its exit codes, and which modules it loads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def epp_batch(*arguments, **other):
    return subprocess.run(
        (sys.executable, "-m", "epp_batch", *arguments),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        **other,
    )


def test_a_closed_pipe_ends_the_command_with_141_and_no_traceback():
    read, write = os.pipe()
    os.close(read)
    try:
        ended = epp_batch("queues", "--preset", "slots", "--namespace", "whisper", stdout=write)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_folder_without_a_run_is_exit_code_2(tmp_path):
    ended = epp_batch("report", str(tmp_path), stdout=subprocess.DEVNULL)
    assert ended.returncode == 2
    assert ended.stderr.startswith("epp-batch report: ")
    assert "no run here; submit or transcribe" in ended.stderr


def imported_modules(*arguments):
    """Modules that are loaded after the command has printed its help."""
    code = f"""
import contextlib, os, sys
from epp_batch.__main__ import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(open(os.devnull, "w")):
    main({list(arguments)})
print(*sys.modules)
"""
    ended = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60, check=True)
    return set(ended.stdout.split())


def test_help_imports_no_command():
    modules = imported_modules("--help")
    assert not {name for name in modules if name.startswith("epp_batch.cli")}
    assert not modules & {"asyncio", "aiohttp", "msgspec", "yaml"}


@pytest.mark.parametrize(
    ("command", "not_needed"),
    [
        ("submit", {"openai", "kubernetes_asyncio", "rich", "faster_whisper"}),
        ("status", {"openai", "kubernetes_asyncio", "rich", "epp_batch.planner", "epp_batch.intake"}),
        ("queues", {"openai", "aiohttp", "rich", "epp_batch.planner"}),
        ("plan", {"openai", "aiohttp", "rich", "epp_batch.report"}),
        ("worker", {"openai", "aiohttp", "rich", "faster_whisper", "epp_batch.manifests"}),
        ("transcribe", {"openai", "aiohttp", "rich", "faster_whisper", "epp_batch.planner"}),
        ("report", {"openai", "aiohttp", "epp_batch.planner"}),
    ],
)
def test_a_command_imports_only_what_it_needs(command, not_needed):
    modules = imported_modules(command, "--help")
    commands = {name for name in modules if name.startswith("epp_batch.cli.") and name.count(".") == 2}
    assert commands - {"epp_batch.cli.lib"} == {f"epp_batch.cli.{command}"}
    assert not modules & not_needed
