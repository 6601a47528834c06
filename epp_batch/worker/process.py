"""The worker process: reads work orders, writes messages to stdout, handles signals, sets the exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable

import msgspec

from epp.clock import SystemClock
from epp_batch.errors import FailureKind, InputError
from epp_batch.spec import WORK_ORDER_VARIABLE, WorkOrder
from epp_batch.worker.messages import WorkerMessage, write_termination_message
from epp_batch.worker.work_order import ModelCache, run_work_order

STOP_GRACE_SECONDS = 10.0
"""Seconds that the current batch may take after SIGTERM; less than Kubernetes' default grace period of 30 s."""
_FINISHED = b"\0"
"""Byte in the wake-up pipe when the work thread has ended; other bytes are signal numbers."""


class MessageWriter:
    """Writes worker messages to stdout as they come and keeps the final ones for the termination message.

    Used by the work thread only. If stdout is closed, as when the parent process died, it sets the stop event.
    """

    def __init__(self, stop: threading.Event) -> None:
        self.final_messages: list[WorkerMessage] = []
        self._stop = stop
        self._encoder = msgspec.json.Encoder()

    def write(self, message: WorkerMessage) -> None:
        """Writes one line to stdout; a failure also to stderr, for people who read the pod's log."""
        if message.result is not None or message.failure is not None:
            self.final_messages.append(message)
        if message.failure is not None:
            failure = message.failure
            text = f"{failure.source}: {failure.stage}: {failure.message}; {failure.remedy}\n"
            with contextlib.suppress(OSError):  # stderr may be a log file on the disk that is full
                os.write(sys.stderr.fileno(), text.encode(errors="replace"))
        unwritten = self._encoder.encode(message) + b"\n"
        try:
            while unwritten:
                unwritten = unwritten[os.write(sys.stdout.fileno(), unwritten) :]
        except BrokenPipeError:
            self._stop.set()


def run_environment_order() -> int:
    """Runs the work order in $EPP_BATCH_ORDER; returns the exit code. Raises InputError if it is not set."""
    text = os.environ.get(WORK_ORDER_VARIABLE)
    if not text:
        raise InputError(f"{WORK_ORDER_VARIABLE} is not set", remedy="submit and transcribe start workers and set it")
    return _run_in_thread([decode_work_order(text)])


def serve_orders() -> int:
    """Runs work orders from stdin, one JSON line each, until end of input; returns the last non-zero exit code."""
    return _run_in_thread(decode_work_order(line) for line in sys.stdin.buffer)


def decode_work_order(text: str | bytes) -> WorkOrder:
    """Decodes a work order from JSON; raises InputError that names the invalid field."""
    try:
        return msgspec.json.decode(text, type=WorkOrder)
    except msgspec.DecodeError as error:
        raise InputError(
            f"invalid work order: {error}", remedy="use the same version of epp-batch on both sides"
        ) from error


def _run_in_thread(orders: Iterable[WorkOrder]) -> int:
    """Runs the orders in a second thread, so that the main thread can react to signals while C++ code computes."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    wakeup_read, wakeup_write = os.pipe()
    stop = threading.Event()
    writer = MessageWriter(stop)
    outcome: list[int | BaseException] = []

    def work() -> None:
        try:
            outcome.append(_run_orders(orders, writer, stop))
        except BaseException as error:
            outcome.append(error)
        finally:
            os.write(wakeup_write, _FINISHED)

    # The kernel may deliver a signal to any thread. Python's C handler writes its number into the wake-up pipe in every
    # case; `os.read` in the main thread would otherwise not return.
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=work, name="work", daemon=True).start()
    if os.read(wakeup_read, 1) != _FINISHED:
        stop.set()
        in_time = select.select([wakeup_read], [], [], STOP_GRACE_SECONDS)[0]
        if not in_time or os.read(wakeup_read, 1) != _FINISHED:  # grace period over, or a second signal
            write_termination_message(writer.final_messages)
            os._exit(FailureKind.STOPPED.exit_code)  # without waiting for C++; finished batches are in the partial file
    write_termination_message(writer.final_messages)
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _run_orders(orders: Iterable[WorkOrder], writer: MessageWriter, stop: threading.Event) -> int:
    clock, models, code = SystemClock(), ModelCache(), 0
    for order in orders:
        code = run_work_order(order, clock=clock, on_progress=writer.write, stop=stop, models=models) or code
        if stop.is_set():
            break
    return code
