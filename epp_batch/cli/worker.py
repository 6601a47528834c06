"""`epp-batch worker`: what a pod runs, and each process of `transcribe`."""

from __future__ import annotations

import argparse
import signal
import sys

from epp_batch.errors import FailureKind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--orders", choices=("-",), help="read work orders from standard input, one JSON object per line"
    )


def run(args: argparse.Namespace) -> int:
    # PID 1 of a container ignores SIGTERM without a handler, and the imports below take a second.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FailureKind.STOPPED.exit_code))
    from epp_batch.worker import process

    return process.serve_orders() if args.orders else process.run_environment_order()
