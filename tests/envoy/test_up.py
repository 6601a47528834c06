"""`epp up` as a process: it starts everything, and leaves no process behind however it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

COMMAND = (sys.executable, "-m", "epp", "up", "--plain", "--sim", "1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_process_is_left_after(number, tmp_path):
    process = await _start("--port=0", "--metrics-port=0", f"--folder={tmp_path}", picker=True)
    url = await _read_url(process)
    children = _list_children(process.pid)
    assert len(children) == 3
    async with aiohttp.ClientSession() as client, client.get(f"{url}/models") as response:
        assert response.status == 200
    process.send_signal(number)
    output, _ = await process.communicate()
    assert process.returncode == (0 if number != signal.SIGKILL else -number), output
    for _ in range(200):
        if not any(_is_alive(pid) for pid in children):
            break
        await asyncio.sleep(0.05)
    assert [pid for pid in children if _is_alive(pid)] == []


async def test_a_port_in_use_is_reported_with_advice():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await _start(f"--port={port}")
        output, _ = await process.communicate()
    assert process.returncode == 2
    assert f"port {port} on 127.0.0.1: Address already in use" in output.decode()
    assert "choose another with --port PORT" in output.decode()


async def test_a_child_that_cannot_start_is_reported_with_its_output(tmp_path):
    process = await _start("--port=0", "--sim-flags=--hardware=abacus", f"--folder={tmp_path}")
    output, _ = await process.communicate()
    assert process.returncode == 2
    assert "sim exited during start (exit code 2)" in output.decode()
    assert "invalid choice: 'abacus'" in output.decode()


async def _start(*flags: str, picker: bool = False) -> asyncio.subprocess.Process:
    mode = () if picker else ("--round-robin",)
    return await asyncio.create_subprocess_exec(
        *COMMAND, *mode, *flags, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def _read_url(process: asyncio.subprocess.Process) -> str:
    """The gateway's URL, from the welcome message; returns when all of it has been printed."""
    assert process.stdout is not None
    url = ""
    async for line in process.stdout:
        if found := re.match(rb"gateway +(http://\S+)", line):
            url = found[1].decode()
        if line.startswith(b"Ctrl-C"):
            return url
    pytest.fail("it exited without a welcome message")


def _list_children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = status.parent.name, status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(rest[1]) == parent:
            found.append(int(pid))
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
