"""One worker process: spawned, given orders, listened to, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import msgspec

from epp.clock import Clock
from epp_batch.errors import BatchError, Kind
from epp_batch.spec import Order
from epp_batch.worker.lines import Line

LINE_BYTES = 1 << 20
OVERDUE = 60.0
"""Seconds after an order's own limit when a process that does not come back from C++ is killed."""
GRACE = 15.0
"""Seconds between SIGTERM and SIGKILL; the worker itself leaves after 10."""


class Died(BatchError):
    """The process is gone in the middle of an order; the pool fails one recording and goes on."""

    def __init__(self, kind: Kind, message: str) -> None:
        self.kind, self.message = kind, message
        super().__init__(message)


class Worker:
    """A process that is started when the first order comes, and again after it died."""

    def __init__(self, number: int, log: Path, environment: Mapping[str, str], clock: Clock) -> None:
        self.number = number
        self.place = f"local/worker-{number}"
        self.model = ""
        """That it has loaded."""
        self._log = log
        self._environment = {**os.environ, **environment}
        self._clock = clock
        self._process: Process | None = None

    async def lines(self, order: Order) -> AsyncGenerator[Line, None]:
        """Gives the order and yields what the worker says until every task has come to its end. Raises Died.

        A process that was gone before it heard of the order is replaced, once: the order is not to blame.
        """
        while True:
            fresh, said = self._process is None, False
            try:
                async with contextlib.aclosing(self._listen(order)) as lines:
                    async for line in lines:
                        said = True
                        yield line
                return
            except Died:
                if fresh or said:
                    raise

    async def _listen(self, order: Order) -> AsyncGenerator[Line, None]:
        process = self._process or await self._spawn()
        self.model = order.tasks[0].model
        limit = None if order.max_seconds is None else order.max_seconds * len(order.tasks) + OVERDUE
        end = None if limit is None else self._clock.now() + limit
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):  # the answer says why it is gone
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            await process.stdin.drain()
        ended = 0
        while ended < len(order.tasks):
            try:
                line = msgspec.json.decode(await self._next(process, end), type=Line)
            except msgspec.DecodeError:  # a library's print
                continue
            ended += line.result is not None or line.failure is not None
            yield line

    async def _next(self, process: Process, end: float | None) -> bytes:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(None if end is None else max(0.0, end - self._clock.now())):
                text = await process.stdout.readline()
        except TimeoutError:
            process.kill()
            await self._reap(process)
            raise Died(Kind.TIMEOUT, "the worker hung and was killed") from None
        if not text.endswith(b"\n"):
            raise await self._death(process)
        return text

    async def _death(self, process: Process) -> Died:
        code = await self._reap(process)
        if code < 0:
            return Died(Kind.KILLED, f"the worker was killed by {signal.Signals(-code).name}")
        kind = Kind.of_code(code)
        last = self._last_words()
        return Died(kind, f"the worker ended with code {code}" + (f": {last}" if last else ""))

    async def _spawn(self) -> Process:
        """In a session of its own, so that Ctrl-C reaches us first and only us."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "epp_batch", "worker", "--orders", "-",
                stdin=PIPE, stdout=PIPE, stderr=log, limit=LINE_BYTES, env=self._environment, start_new_session=True,
            )  # fmt: skip
        return self._process

    async def close(self) -> None:
        """Ends an idle process by the end of its input, a busy one by SIGTERM, a deaf one by SIGKILL."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            process.kill()
        await self._reap(process)

    async def _reap(self, process: Process) -> int:
        code = await process.wait()
        if self._process is process:
            self._process = None
            self.model = ""
        return code

    def _last_words(self) -> str:
        """The last line of its log that says something."""
        try:
            lines = self._log.read_bytes()[-4096:].decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
