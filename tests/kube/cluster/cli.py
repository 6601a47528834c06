"""Runs `epp-batch` as a process with the rights of a user of one namespace."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

COMMAND = [sys.executable, "-m", "epp_batch"]


class CommandResult(NamedTuple):
    code: int
    out: str
    err: str


class EppBatchCli:
    """Runs `epp-batch` commands as processes and returns their exit code and output."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path) -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._namespace, self._folder = namespace, folder

    @property
    def flags(self) -> tuple[object, ...]:
        """Flags of a run whose files are below the test's folder and whose output folder is its `out`."""
        return (
            self._folder / "calls",
            *("--output", self._folder / "out"),
            *("--volume", f"host/{self._folder}"),
            *("--image", "whisper"),
        )

    @asynccontextmanager
    async def start(self, command: str, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
        words = [*COMMAND, command, *map(str, arguments), "--namespace", self._namespace]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, env=self._environment, stdout=pipe, stderr=pipe)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def __call__(self, command: str, *arguments: object) -> CommandResult:
        async with self.start(command, *arguments) as process:
            out, err = await process.communicate()
        assert process.returncode is not None
        return CommandResult(process.returncode, out.decode(), err.decode())

    async def submit(self, *arguments: object) -> CommandResult:
        return await self("submit", *self.flags, *arguments)
