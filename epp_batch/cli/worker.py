"""`epp-batch worker`: what a pod runs, and each process of `transcribe`."""

from __future__ import annotations

import argparse
import signal
import sys

from epp_batch.errors import FailureKind

HELP = "transcribe what an order says: from $EPP_BATCH_ORDER in a pod, or one order a line from standard input"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", choices=("-",), help="read orders from standard input, one JSON object a line")


def run(args: argparse.Namespace) -> int:
    # Imports take a second, and the first process of a container would not hear the signal without a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FailureKind.STOPPED.exit_code))
    from epp_batch.worker import process

    return process.serve_orders() if args.orders else process.run_environment_order()
