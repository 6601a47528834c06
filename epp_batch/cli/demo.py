"""`epp-batch demo`: the whole batch stage on this machine, with real speech and real Whisper."""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path

from epp_batch.cli.lib.flag_values import parse_positive_int
from epp_batch.demo import run_demo
from epp_batch.errors import FolderError

DEFAULT_SERVERS, DEFAULT_MAX_TOKENS, DEFAULT_LIMIT_SECONDS = 3, 96, 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="your recordings instead of synthesized ones")
    parser.add_argument("--output", "-o", metavar="DIR", help="output folder (default: a new temporary one)")
    parser.add_argument(
        "--servers",
        type=parse_positive_int,
        default=DEFAULT_SERVERS,
        metavar="N",
        help=f"simulated model servers ({DEFAULT_SERVERS})",
    )
    parser.add_argument(
        "--max-tokens",
        type=parse_positive_int,
        default=DEFAULT_MAX_TOKENS,
        metavar="N",
        help=f"longest summary ({DEFAULT_MAX_TOKENS})",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=DEFAULT_LIMIT_SECONDS,
        metavar="SECONDS",
        help=f"time limit of each step ({DEFAULT_LIMIT_SECONDS:.0f})",
    )


def run(args: argparse.Namespace) -> int:
    """The exit code of the demo's last step; 128 + the signal's number after SIGINT or SIGTERM."""
    try:
        root = Path(args.output) if args.output else Path(tempfile.mkdtemp(prefix="epp-batch-demo-"))
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{args.output}: {error.strerror}", remedy="give another folder with --output") from error
    return asyncio.run(_play_demo(args, root))


async def _play_demo(args: argparse.Namespace, root: Path) -> int:
    this_task, received = asyncio.current_task(), []
    assert this_task is not None

    def on_signal(number: int) -> None:
        received.append(number)
        this_task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    try:
        return await run_demo(
            args.sources,
            root,
            servers=args.servers,
            max_tokens=args.max_tokens,
            limit=args.limit,
            print_line=_print_line,
        )
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]


def _print_line(text: str) -> None:
    print(text, flush=True)
