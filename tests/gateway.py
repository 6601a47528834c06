"""`epp` commands as processes, used as a user does."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest


class RunningCommand(NamedTuple):
    """A command whose output has matched the pattern that it was started with."""

    process: Process
    matched: str
    """The first group of the pattern."""


@contextlib.asynccontextmanager
async def run_epp(*arguments: str, pattern: str) -> AsyncIterator[RunningCommand]:
    """Starts `epp ARGUMENTS…` and waits until its output matches `pattern`; terminates it at the end of the block.

    Fails the test with the output if the command ends before.
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "epp", *arguments, stdout=PIPE, stderr=STDOUT)
    assert process.stdout is not None
    output, rest = "", None
    try:
        async for line in process.stdout:
            output += line.decode()
            if found := re.search(pattern, output, re.DOTALL):
                break
        else:
            pytest.fail(output)
        # Read on, or the command blocks once the pipe is full.
        rest = asyncio.get_running_loop().create_task(process.stdout.read())
        yield RunningCommand(process, found[1])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if rest is not None:
            await rest


def run_epp_up(*arguments: str) -> contextlib.AbstractAsyncContextManager[RunningCommand]:
    """`epp up` on free ports; `matched` is the base URL of its API."""
    common = ("up", "--plain", "--port=0", "--metrics-port=0")
    return run_epp(*common, *arguments, pattern=r"gateway +(http://\S+).*Ctrl-C")
