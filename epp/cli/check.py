"""`epp check`: prints the effective configuration, or every problem in it; starts nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from epp.config import loader, presets
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError, Problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `epp check`."""
    parser.add_argument("config", nargs="?", default="", help="a file, - for standard input, or a preset's name")
    parser.add_argument("--presets", action="store_true", help="print the names of the presets")
    parser.add_argument("--allow-experimental-plugins", action="store_true", help="permit experimental plugins")


def run(arguments: argparse.Namespace) -> int:
    """Prints the configuration with all defaults and added plugins. ConfigError lists every problem."""
    if arguments.presets:
        print("\n".join(presets.preset_names()))
        return 0
    source, text = read_config(arguments.config or presets.DEFAULT_PRESET)
    allowed = arguments.allow_experimental_plugins
    effective = loader.render_effective_config(text, PluginRegistry.load(), source=source, allow_experimental=allowed)
    print(effective, end="")
    return 0


def read_config(config: str) -> tuple[str, str]:
    """What messages call the configuration, and its text: of a preset, of standard input (`-`), or of a file."""
    if config == "-":
        return "standard input", sys.stdin.read()
    if config in presets.preset_names():
        return f"preset {config}", presets.read_preset(config)
    try:
        return config, Path(config).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(presets.preset_names())
        raise ConfigError([Problem(config, f"cannot be read: {error}; the presets are {names}")]) from error
