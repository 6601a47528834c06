"""The `epp` command: parses arguments and runs one command, importing only that command's module."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from epp import __version__
from epp.errors import EppError


class Command(NamedTuple):
    """A sub-command: its module, with `add_arguments(parser)` and `run(arguments) -> int`, and one line of help."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("serve", "epp.cli.serve", "the endpoint picker itself, for an Envoy that you run"),
    Command("up", "epp.cli.up", "a whole gateway: Envoy, the picker and, with --sim, simulated model servers"),
    Command("sim", "epp.cli.sim", "model servers that behave like vLLM, without a GPU"),
    Command("demo", "epp.cli.demo", "compares round robin with the default policy on a prefix-sharing workload"),
    Command("check", "epp.cli.check", "prints the effective configuration, defaults included, or every problem in it"),
    Command("plugins", "epp.cli.plugins", "the installed plugins and their parameters"),
    Command("explain", "epp.cli.explain", "how the last requests were routed: filters, scores and picks"),
)


EXTRA_BY_MODULE = {"rich": "gateway", "envoy": "gateway", "grpc": "grpcio"}
"""The extra of the package `endpoint-picker` that installs an optional module."""

GLOBAL_OPTIONS = ("-h", "--help", "--version")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command named by the first argument; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run_command(_parse_arguments(words))
    except ModuleNotFoundError as error:
        extra = EXTRA_BY_MODULE.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"epp: {error.name} is not installed: pip install 'endpoint-picker[{extra}]'", file=sys.stderr)
        return 2


def _parse_arguments(words: list[str]) -> argparse.Namespace:
    if words and words[0].startswith("-") and words[0] not in GLOBAL_OPTIONS:
        words.insert(0, "serve")  # llm-d's binary has no sub-commands: its argument lists work unchanged
    parser = argparse.ArgumentParser(prog="epp", description="Endpoint picker for inference traffic behind Envoy.")
    parser.add_argument("--version", action="version", version=f"epp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    given = next((word for word in words if not word.startswith("-")), "")
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        if command.name == given:
            module = importlib.import_module(command.module)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run, parser=sub)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _run_command(arguments: argparse.Namespace) -> int:
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except EppError as error:
        print(f"epp {arguments.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has closed it. Stdout leads to /dev/null now, or the interpreter's flush at
        # exit would fail as well. 128 + SIGPIPE is what the shell reports of programs that the signal ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
