"""`epp check`: what a configuration means, before anything runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from epp.config import loader, presets
from epp.config.registry import Registry
from epp.errors import ConfigError, Problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `epp check`."""
    parser.add_argument("config", nargs="?", default="", help="a file, - for standard input, or a preset's name")
    parser.add_argument("--presets", action="store_true", help="print the names of the presets")
    parser.add_argument("--allow-experimental-plugins", action="store_true", help="permit alpha plugins")


def run(arguments: argparse.Namespace) -> int:
    """Prints the effective configuration, defaults and added plugins included; ConfigError says all that is wrong."""
    if arguments.presets:
        print("\n".join(presets.names()))
        return 0
    source, text = read(arguments.config or presets.DEFAULT)
    allowed = arguments.allow_experimental_plugins
    print(loader.check(text, Registry.load(), source=source, allow_experimental=allowed), end="")
    return 0


def read(config: str) -> tuple[str, str]:
    """(what to call it, the text)."""
    if config == "-":
        return "standard input", sys.stdin.read()
    if config in presets.names():
        return f"preset {config}", presets.text(config)
    try:
        return config, Path(config).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        advice = f"there are the presets {', '.join(presets.names())}"
        raise ConfigError([Problem(config, f"cannot be read: {error}; {advice}")]) from error
