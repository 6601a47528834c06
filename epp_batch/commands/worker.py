"""`epp-batch worker`: what a pod runs, and each process of `transcribe`."""

from __future__ import annotations

import argparse

HELP = "transcribe what an order says: from $EPP_BATCH_ORDER in a pod, or one order a line from standard input"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", choices=("-",), help="read orders from standard input, one JSON object a line")


def run(args: argparse.Namespace) -> int:
    from epp_batch.worker import process

    return process.serve() if args.orders else process.once()
