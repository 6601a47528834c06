"""Child processes of the demo; they end when the demo ends, even if it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import IO

from epp_batch.errors import BatchError

START_SECONDS = 60.0
STOP_GRACE_SECONDS = 20.0
_PDEATHSIG = 1


async def run_command(words: Sequence[str], limit: float) -> int:
    """Runs an `epp-batch` command with this terminal as output; returns its exit code.

    Raises BatchError after `limit` s.
    """
    process = await _start_process("epp_batch", *words)
    try:
        async with asyncio.timeout(limit):
            return await process.wait()
    except TimeoutError:
        raise BatchError(f"epp-batch {words[0]} took more than {limit:g} s", remedy="give --limit SECONDS") from None
    finally:
        await stop_process(process)


@contextlib.asynccontextmanager
async def start_gateway(servers: int, log: Path) -> AsyncIterator[str]:
    """Runs `epp up` with simulated servers on free ports; yields its API's URL.

    Raises BatchError if it does not start.
    """
    with log.open("wb") as file:
        words = ("up", "--plain", "--sim", str(servers), "--port", "0", "--metrics-port", "0")
        process = await _start_process("epp", *words, stdout=file)
    try:
        yield await _wait_for_address(process, log)
    finally:
        await stop_process(process)


async def stop_process(process: asyncio.subprocess.Process) -> None:
    """Terminates a process and waits for it; kills it after the grace period."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _wait_for_address(process: asyncio.subprocess.Process, log: Path) -> str:
    """The gateway's URL, from its log after the start message is complete."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                text = log.read_text(errors="replace")
                found = re.search(r"^gateway +(http://\S+)", text, re.MULTILINE)
                if found and "Ctrl-C" in text:
                    return found[1]
                await asyncio.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
    raise BatchError(f"epp up did not start: {last[0]}", remedy=f"see {log}")


async def _start_process(module: str, *words: str, stdout: IO[bytes] | None = None) -> asyncio.subprocess.Process:
    """Starts `python -m module`.

    With its output in a file it gets its own session: Ctrl-C ends it after the command.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *words),
        stdout=stdout,
        stderr=asyncio.subprocess.STDOUT if stdout is not None else None,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=stdout is not None,
        preexec_fn=_terminate_with_parent() if sys.platform == "linux" else None,
    )


def _terminate_with_parent() -> Callable[[], None]:
    """Linux: makes the kernel send the child SIGTERM when this process dies (PR_SET_PDEATHSIG), for `preexec_fn`."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def set_death_signal() -> None:
        prctl(_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal
