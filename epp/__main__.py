"""The `epp` command: argument parsing only. Each command imports what it needs when it runs."""

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
    """A sub-command: the module with its `add_arguments(parser)` and `run(arguments) -> int`, and one line of help."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("serve", "epp.cli.serve", "the endpoint picker itself, for an Envoy that you run"),
    Command("up", "epp.cli.up", "a whole gateway: Envoy, the picker and, if asked, simulated servers"),
    Command("sim", "epp.cli.sim", "model servers that behave like vLLM, without a GPU"),
    Command("demo", "epp.cli.demo", "round robin against our default on a prefix-sharing workload"),
    Command("check", "epp.cli.check", "reads a configuration and prints what would run, or all that is wrong"),
    Command("plugins", "epp.cli.plugins", "the plugins that are installed, with their parameters"),
    Command("explain", "epp.cli.explain", "why the last requests went where they went"),
)


EXTRA_BY_MODULE = {"rich": "gateway", "envoy": "gateway", "grpc": "grpcio"}
"""Which extra brings a module that need not be installed."""

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
        words.insert(0, "serve")  # llm-d's binary has no commands: its argument lists work unchanged
    parser = argparse.ArgumentParser(prog="epp", description="Endpoint picker for inference traffic behind Envoy.")
    parser.add_argument("--version", action="version", version=f"epp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((word for word in words if not word.startswith("-")), "")
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        if command.name == wanted:
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
        # The reader (`| head`) has seen enough; the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
