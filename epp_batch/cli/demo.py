"""`epp-batch demo`: all of it, on this machine, with real speech and real Whisper."""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path

from epp_batch.cli.lib.source_flags import parse_positive_int
from epp_batch.errors import FolderError

HELP = "speech to transcripts to summaries to a report, here, in about a minute"
DEFAULT_SERVERS, DEFAULT_MAX_TOKENS, DEFAULT_LIMIT_SECONDS = 3, 96, 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="recordings of yours instead of made ones")
    parser.add_argument("--output", "-o", metavar="DIR", help="keep everything here (default: a new temporary folder)")
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
        help=f"longest step ({DEFAULT_LIMIT_SECONDS:.0f})",
    )


def run(args: argparse.Namespace) -> int:
    try:
        root = Path(args.output) if args.output else Path(tempfile.mkdtemp(prefix="epp-batch-demo-"))
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{args.output}: {error.strerror}", remedy="give another folder with --output") from error
    return asyncio.run(_play_demo(args, root))


async def _play_demo(args: argparse.Namespace, root: Path) -> int:
    from epp_batch.demo import run_demo

    this, signals = asyncio.current_task(), []
    assert this is not None

    def end(number: int) -> None:
        signals.append(number)
        this.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await run_demo(
            args.sources, root, servers=args.servers, max_tokens=args.max_tokens, limit=args.limit, say=_print_line
        )
    except asyncio.CancelledError:
        if not signals:
            raise
        return 128 + signals[0]


def _print_line(text: str) -> None:
    print(text, flush=True)
