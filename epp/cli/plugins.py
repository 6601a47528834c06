"""`epp plugins`: lists the installed plugin types, built-in and of other packages."""

from __future__ import annotations

import argparse

from epp.config import catalogue
from epp.config.registry import PluginRegistry
from epp.errors import EppError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `epp plugins`."""
    parser.add_argument("type", nargs="*", help="show the catalogue entries of these types")


def run(arguments: argparse.Namespace) -> int:
    """Prints a line for each type, or the catalogue entries of the types given.

    EppError, after the lines of the other types, for types that cannot be imported.
    """
    registry = PluginRegistry.load()
    if arguments.type:
        print(catalogue.render_catalogue(registry, arguments.type))
        return 0
    summaries, errors = catalogue.summarize_types(registry)
    rows = [("TYPE", "KIND", "PACKAGE", ""), *summaries]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for *cells, first_sentence in rows:
        print("  ".join([cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]), first_sentence)
    if errors:
        raise EppError("\n".join(errors))
    return 0
