from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from epp.clock import SystemClock
from epp.gateway.net import GatewayError, bind_listening_socket, bind_socket, http_get
from epp.gateway.supervisor import Program, Supervisor


@pytest.fixture
async def supervisor(tmp_path):
    said = []
    supervisor = Supervisor(tmp_path, SystemClock(), said.append)
    supervisor.said = said
    yield supervisor
    await supervisor.close()


def program(code, ready=None):
    async def always():
        return True

    return Program(name="child", argv=[sys.executable, "-S", "-c", code], is_ready=ready or always)


async def until(holds):
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never became true")


def ended(pid):
    """Gone, or dead and not yet waited for by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


SLEEPER = "import time; print('here', flush=True); time.sleep(60)"


async def test_a_child_that_dies_is_started_again(supervisor):
    child = await supervisor.start(program(SLEEPER))
    before = supervisor.send_signal("child")
    await until(lambda: child.ready and child.pid not in (0, before))
    assert child.restarts == 1
    assert supervisor.said[0].startswith("child ended (SIGKILL); its last lines:")
    assert supervisor.said[1].startswith("child serves again")


async def test_a_child_that_ends_before_it_serves_is_an_error_with_its_last_lines(supervisor):
    async def never():
        return False

    with pytest.raises(GatewayError, match=r"child ended at once \(exit code 3\).*\n    no such flag"):
        await supervisor.start(program("print('no such flag'); raise SystemExit(3)", never))


async def test_a_program_that_cannot_be_run_is_an_error_with_its_path(supervisor, tmp_path):
    async def never():
        return False

    missing = str(tmp_path / "envoy")
    with pytest.raises(GatewayError, match=f"envoy: {missing} cannot be run: No such file"):
        await supervisor.start(Program(name="envoy", argv=[missing], is_ready=never))


async def test_a_child_that_never_serves_is_an_error(supervisor):
    async def never():
        return False

    with pytest.raises(GatewayError, match="child is not ready after 0 s"):
        await supervisor.start(program(SLEEPER, never), seconds=0.1)


async def test_closing_ends_children_that_do_not_want_to(supervisor, monkeypatch):
    monkeypatch.setattr("epp.gateway.supervisor.TERMINATION_GRACE_SECONDS", 0.2)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    log = supervisor._folder / "child.log"

    async def deaf_by_now():
        return log.exists() and "deaf" in log.read_text()

    child = await supervisor.start(program(deaf, deaf_by_now))
    pid = child.pid
    await supervisor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_a_child_has_started_ends_with_it(supervisor, tmp_path):
    note = tmp_path / "grandchild"
    code = (
        "import subprocess, sys, time, pathlib;"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid)); time.sleep(60)"
    )

    async def noted():
        return note.exists() and bool(note.read_text())

    await supervisor.start(program(code, noted))
    grandchild = int(note.read_text())
    await supervisor.close()
    await until(lambda: ended(grandchild))


def test_a_port_in_use_is_an_error_with_the_way_out():
    with bind_listening_socket("127.0.0.1", 0, "") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(GatewayError, match=rf"port {port} on 127.0.0.1: Address already in use; use --port"):
            bind_listening_socket("127.0.0.1", port, "use --port")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a bound port is nobody else's")
def test_a_port_that_is_kept_is_given_to_who_asks_for_it_and_to_nobody_by_chance():
    with bind_socket("127.0.0.1", 0, "") as kept:
        port = kept.getsockname()[1]
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))  # as binding to port 0 does, which never takes a port that is bound
        with bind_listening_socket("127.0.0.1", port, ""), pytest.raises(GatewayError, match="use --port"):
            bind_socket("127.0.0.1", port, "use --port")


async def test_a_page_of_nobody_has_status_0():
    with bind_listening_socket("127.0.0.1", 0, "") as sock:
        port = sock.getsockname()[1]
    assert await http_get("127.0.0.1", port, "/") == (0, b"")
