"""One worker process: starts it, sends it work orders, reads its messages, ends it."""

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
from epp_batch.errors import BatchError, FailureKind
from epp_batch.spec import WorkOrder
from epp_batch.worker.messages import WorkerMessage

MAX_LINE_BYTES = 1 << 20
HANG_SECONDS = 60.0
"""A process that exceeds its order's time limit by this many seconds is hung in C++ code, and is killed."""
STOP_GRACE_SECONDS = 15.0
"""Seconds between SIGTERM and SIGKILL; the worker itself exits within 10 (its own STOP_GRACE_SECONDS)."""


class WorkerDied(BatchError):
    """The process ended in the middle of an order; the pool fails the current recording and continues."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class WorkerProcess:
    """A worker process, started by the first order and restarted by the first order after it died.

    Runs one order at a time. `place` names it in events.
    """

    def __init__(self, number: int, log: Path, environment: Mapping[str, str], clock: Clock) -> None:
        self.number = number
        self.place = f"local/worker-{number}"
        self.loaded_model = ""
        """The model of its last order; empty without a running process."""
        self._log = log
        self._environment = {**os.environ, **environment}
        self._clock = clock
        self._process: Process | None = None

    async def run_order(self, order: WorkOrder) -> AsyncGenerator[WorkerMessage, None]:
        """Sends the order and yields messages until every task has ended. Raises WorkerDied.

        If an idle process is found dead, it is replaced once: the order is not the cause.
        """
        while True:
            fresh, answered = self._process is None, False
            try:
                async with contextlib.aclosing(self._exchange(order)) as messages:
                    async for message in messages:
                        answered = True
                        yield message
                return
            except WorkerDied:
                if fresh or answered:
                    raise

    async def _exchange(self, order: WorkOrder) -> AsyncGenerator[WorkerMessage, None]:
        process = self._process or await self._start_process()
        self.loaded_model = order.tasks[0].model
        limit = None if order.max_seconds is None else order.max_seconds * len(order.tasks) + HANG_SECONDS
        end = None if limit is None else self._clock.now() + limit
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it has exited; reading its stdout raises WorkerDied
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            await process.stdin.drain()
        ended = 0
        while ended < len(order.tasks):
            try:
                message = msgspec.json.decode(await self._read_line(process, end), type=WorkerMessage)
            except msgspec.DecodeError:  # printed by a library
                continue
            ended += message.result is not None or message.failure is not None
            yield message

    async def _read_line(self, process: Process, end: float | None) -> bytes:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(None if end is None else max(0.0, end - self._clock.now())):
                text = await process.stdout.readline()
        except TimeoutError:
            process.kill()
            await self._wait_for_exit(process)
            raise WorkerDied(FailureKind.TIMEOUT, "the worker hung and was killed") from None
        if not text.endswith(b"\n"):
            raise await self._explain_exit(process)
        return text

    async def _explain_exit(self, process: Process) -> WorkerDied:
        code = await self._wait_for_exit(process)
        if code < 0:
            return WorkerDied(FailureKind.KILLED, f"the worker was killed by {signal.Signals(-code).name}")
        kind = FailureKind.from_exit_code(code)
        last = self._read_last_log_line()
        return WorkerDied(kind, f"the worker ended with code {code}" + (f": {last}" if last else ""))

    async def _start_process(self) -> Process:
        """Starts the process in its own session: Ctrl-C signals only this process, which then stops its workers."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "epp_batch", "worker", "--orders", "-",
                stdin=PIPE, stdout=PIPE, stderr=log, limit=MAX_LINE_BYTES, env=self._environment,
                start_new_session=True,
            )  # fmt: skip
        return self._process

    async def close(self) -> None:
        """Ends the process: closes its stdin (if idle, it exits), sends SIGTERM, and SIGKILL after the grace period."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
        await self._wait_for_exit(process)

    async def _wait_for_exit(self, process: Process) -> int:
        code = await process.wait()
        if self._process is process:
            self._process = None
            self.loaded_model = ""
        return code

    def _read_last_log_line(self) -> str:
        """The last non-empty line of its log; "" if there is none."""
        try:
            lines = self._log.read_bytes()[-4096:].decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
