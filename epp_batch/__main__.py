"""The `epp-batch` command: parsing only."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from epp_batch.errors import BatchError

COMMANDS = (
    "submit", "watch", "status", "cancel", "pause", "resume", "logs", "queues", "plan",
    "worker", "transcribe", "summarize", "report", "demo",
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """All commands, each from its module."""
    top = argparse.ArgumentParser(prog="epp-batch", description="Audio to transcripts to summaries.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"epp_batch.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def main(argv: list[str] | None = None) -> int:
    """Runs one command; a BatchError ends it with its text and exit code 2."""
    args = build_parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BatchError as error:
        print(f"epp-batch {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `epp-batch … | head`; the flush at exit must not find the pipe, either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    sys.exit(main())
