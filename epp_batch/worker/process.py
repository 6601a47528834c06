"""The worker as a process: its order, its standard output, its signals and its end."""

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
"""Seconds after SIGTERM in which the batch under way may end; Kubernetes kills after 30 unless told otherwise."""
_FINISHED = b"\0"
"""In the pipe where else the numbers of signals come."""


class MessageWriter:
    """Prints lines as they come and keeps the ends for the note. Nobody left to listen means: stop."""

    def __init__(self, stop: threading.Event) -> None:
        self.final_messages: list[WorkerMessage] = []
        self._stop = stop
        self._encoder = msgspec.json.Encoder()

    def write(self, line: WorkerMessage) -> None:
        if line.result is not None or line.failure is not None:
            self.final_messages.append(line)
        if line.failure is not None:
            failure = line.failure
            text = f"{failure.source}: {failure.stage}: {failure.message}; {failure.remedy}\n"
            with contextlib.suppress(OSError):  # a log on the full disk that it tells of
                os.write(sys.stderr.fileno(), text.encode(errors="replace"))
        rest = self._encoder.encode(line) + b"\n"
        try:
            while rest:
                rest = rest[os.write(sys.stdout.fileno(), rest) :]
        except BrokenPipeError:
            self._stop.set()


def run_environment_order() -> int:
    """The order of $EPP_BATCH_ORDER; InputError when there is none."""
    text = os.environ.get(WORK_ORDER_VARIABLE)
    if not text:
        raise InputError(f"{WORK_ORDER_VARIABLE} is not set", remedy="run it as submit and transcribe do")
    return _run_in_thread([decode_work_order(text)])


def serve_orders() -> int:
    """Orders from standard input, one a line, until it ends."""
    return _run_in_thread(decode_work_order(line) for line in sys.stdin.buffer)


def decode_work_order(text: str | bytes) -> WorkOrder:
    """An order from its JSON; InputError names the field that is wrong."""
    try:
        return msgspec.json.decode(text, type=WorkOrder)
    except msgspec.DecodeError as error:
        raise InputError(f"not an order: {error}", remedy="use the same version of epp-batch on both sides") from error


def _run_in_thread(orders: Iterable[WorkOrder]) -> int:
    """Works in a second thread, so that the first hears signals while C++ computes."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    heard, tell = os.pipe()
    stop = threading.Event()
    speaker = MessageWriter(stop)
    outcome: list[int | BaseException] = []

    def body() -> None:
        try:
            outcome.append(_run_orders(orders, speaker, stop))
        except BaseException as error:
            outcome.append(error)
        finally:
            os.write(tell, _FINISHED)

    # any thread may be the one that takes a signal: told through a pipe by C, `os.read` hears it in every case
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=body, name="work", daemon=True).start()
    if os.read(heard, 1) != _FINISHED:
        stop.set()
        if (
            not select.select([heard], [], [], STOP_GRACE_SECONDS)[0] or os.read(heard, 1) != _FINISHED
        ):  # late, or told again
            _exit_now(speaker, FailureKind.STOPPED.exit_code)
    write_termination_message(speaker.final_messages)
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _run_orders(orders: Iterable[WorkOrder], speaker: MessageWriter, stop: threading.Event) -> int:
    clock, shelf, code = SystemClock(), ModelCache(), 0
    for order in orders:
        code = run_work_order(order, clock=clock, on_progress=speaker.write, stop=stop, shelf=shelf) or code
        if stop.is_set():
            break
    return code


def _exit_now(speaker: MessageWriter, code: int) -> None:
    """Goes without waiting for C++; all batches that ended are in the partial file."""
    write_termination_message(speaker.final_messages)
    os._exit(code)
