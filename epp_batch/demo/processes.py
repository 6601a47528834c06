"""Programs that the demo starts: each ends with it, however it ends."""

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
    """Runs an `epp-batch` command on this terminal; its exit code. Raises BatchError after `limit` seconds."""
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
    """`epp up` with simulated servers on free ports; yields the address of its API. Raises BatchError."""
    with log.open("wb") as file:
        words = ("up", "--plain", "--sim", str(servers), "--port", "0", "--metrics-port", "0")
        process = await _start_process("epp", *words, stdout=file)
    try:
        yield await _wait_for_address(process, log)
    finally:
        await stop_process(process)


async def stop_process(process: asyncio.subprocess.Process) -> None:
    """Ends it and waits, also while the caller is cancelled: in the end by force."""
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
    """From its welcome, once all of that is said."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                said = log.read_text(errors="replace")
                found = re.search(r"^gateway +(http://\S+)", said, re.MULTILINE)
                if found and "Ctrl-C" in said:
                    return found[1]
                await asyncio.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    raise BatchError(f"epp up did not start: {last[0]}", remedy=f"see {log}")


async def _start_process(module: str, *words: str, stdout: IO[bytes] | None = None) -> asyncio.subprocess.Process:
    """A session of its own for what must outlive a Ctrl-C by a moment: whatever writes to a file."""
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
    """Linux: a child is told when we die, whatever we die of."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return tie
