"""`epp` commands as processes, for tests that use them as anybody does."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest


class Running(NamedTuple):
    """A command that has said what it was waited for."""

    process: Process
    said: str
    """The first group of the pattern."""


@contextlib.asynccontextmanager
async def started(*words: str, pattern: str) -> AsyncIterator[Running]:
    """`epp WORDS…` once its output matches `pattern`; ended after."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "epp", *words, stdout=PIPE, stderr=STDOUT)
    assert process.stdout is not None
    said, reading = "", None
    try:
        async for line in process.stdout:
            said += line.decode()
            if found := re.search(pattern, said, re.DOTALL):
                break
        else:
            pytest.fail(said)
        reading = asyncio.get_running_loop().create_task(process.stdout.read())
        yield Running(process, found[1])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading


def epp_up(*words: str) -> contextlib.AbstractAsyncContextManager[Running]:
    """`epp up` on free ports; `said` is the address of its API."""
    common = ("up", "--plain", "--port=0", "--metrics-port=0")
    return started(*common, *words, pattern=r"gateway +(http://\S+).*Ctrl-C")
