"""Start, readiness, restart and termination of child processes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from epp.clock import SystemClock
from epp.gateway.net import GatewayError
from epp.gateway.supervisor import Program, Supervisor


@pytest.fixture
async def supervisor(tmp_path):
    lines = []
    supervisor = Supervisor(tmp_path, SystemClock(), lines.append)
    supervisor.printed_lines = lines
    yield supervisor
    await supervisor.close()


def build_program(code, ready=None):
    async def always():
        return True

    return Program(name="child", argv=[sys.executable, "-S", "-c", code], is_ready=ready or always)


async def wait_until(is_true):
    for _ in range(1000):
        if is_true():
            return
        await asyncio.sleep(0.01)
    pytest.fail("not within 10 s")


def has_exited(pid):
    """No such process, or a zombie that its new parent has not reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


SLEEPER = "import time; print('here', flush=True); time.sleep(60)"


async def test_a_child_that_exits_is_restarted(supervisor):
    child = await supervisor.start(build_program(SLEEPER))
    before = supervisor.send_signal("child")
    await wait_until(lambda: child.ready and child.pid not in (0, before))
    assert child.restarts == 1
    assert supervisor.printed_lines[0].startswith("child exited (SIGKILL); last output:")
    assert supervisor.printed_lines[1].startswith("child is ready again")


async def test_a_child_that_exits_during_start_is_an_error_with_its_output(supervisor):
    async def never():
        return False

    with pytest.raises(GatewayError, match=r"child exited during start \(exit code 3\).*\n    no such flag"):
        await supervisor.start(build_program("print('no such flag'); raise SystemExit(3)", never))


async def test_a_program_that_cannot_be_run_is_an_error_with_its_path(supervisor, tmp_path):
    async def never():
        return False

    missing = str(tmp_path / "envoy")
    with pytest.raises(GatewayError, match=f"envoy: cannot run {missing}: No such file"):
        await supervisor.start(Program(name="envoy", argv=[missing], is_ready=never))


async def test_a_child_that_is_never_ready_is_an_error(supervisor):
    async def never():
        return False

    with pytest.raises(GatewayError, match="child is not ready after 0 s"):
        await supervisor.start(build_program(SLEEPER, never), timeout_seconds=0.1)


async def test_close_kills_children_that_ignore_sigterm(supervisor, monkeypatch):
    monkeypatch.setattr("epp.gateway.supervisor.TERMINATION_GRACE_SECONDS", 0.2)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ignored', flush=True); time.sleep(60)"
    )
    log = supervisor._folder / "child.log"

    async def ignores_sigterm():
        return log.exists() and "ignored" in log.read_text()

    child = await supervisor.start(build_program(code, ignores_sigterm))
    pid = child.pid
    await supervisor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_close_kills_the_processes_that_a_child_has_started(supervisor, tmp_path):
    pid_file = tmp_path / "grandchild"
    code = (
        "import subprocess, sys, time, pathlib;"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(p.pid)); time.sleep(60)"
    )

    async def grandchild_started():
        return pid_file.exists() and bool(pid_file.read_text())

    await supervisor.start(build_program(code, grandchild_started))
    grandchild = int(pid_file.read_text())
    await supervisor.close()
    await wait_until(lambda: has_exited(grandchild))
