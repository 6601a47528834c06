"""The `epp-batch` command: argument parsing only. The module of the command that is called is the only one imported."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from epp_batch.errors import BatchError


class BatchCommand(NamedTuple):
    """A sub-command: its module in `epp_batch.cli`, which bears its name, and one line of help."""

    name: str
    help: str


COMMANDS = (
    BatchCommand("submit", "transcribe on a cluster: one Job per recording, queued by Kueue"),
    BatchCommand("watch", "follow a run to its end; only submit creates missing Jobs"),
    BatchCommand("status", "status of a run, and why it does not progress; works without the cluster, from the folder"),
    BatchCommand("cancel", "delete the unfinished Jobs of a run; transcripts stay, finished and partial ones"),
    BatchCommand("pause", "hold a run's queued Jobs until `epp-batch resume`; running ones continue without --now"),
    BatchCommand("resume", "continue a paused run"),
    BatchCommand("logs", "the log of one recording's worker, or of all running workers"),
    BatchCommand("queues", "print or create the Kueue queues that Jobs wait in"),
    BatchCommand("plan", "predict makespan and completion times on a cluster, for several orders of submission"),
    BatchCommand("worker", "transcribe a work order from $EPP_BATCH_ORDER, as in a pod, or orders from standard input"),
    BatchCommand("transcribe", "transcribe on this machine in a few worker processes, without a cluster"),
    BatchCommand("summarize", "send finished transcripts to an LLM through the gateway and save its summaries"),
    BatchCommand("report", "makespan, latencies, speed, GPU hours, cost, word errors and a chart of a run; or of two"),
    BatchCommand("demo", "speech to transcripts to summaries to a report, on this machine, in about a minute"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code, 2 for a BatchError (its message goes to standard error)."""
    args = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BatchError as error:
        print(f"epp-batch {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command that `argv` names, whose module is imported; `run` is its function."""
    parser = argparse.ArgumentParser(prog="epp-batch", description="Audio to transcripts to summaries.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = next((word for word in argv if not word.startswith("-")), "")
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        if command.name == called:
            module = importlib.import_module(f"epp_batch.cli.{command.name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
