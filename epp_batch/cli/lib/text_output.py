"""Text that several commands print: tables, YAML streams, failures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from epp_batch.output_folder import TaskFailure
from epp_batch.progress_view.words import format_failure


def print_failure(failure: TaskFailure) -> None:
    """One line on standard error: `<source>: <stage>: <message>; <remedy>`."""
    print(format_failure(failure), file=sys.stderr, flush=True)


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, each as wide as its widest cell; one line per row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def dump_yaml_stream(objects: Iterable[dict[str, Any]]) -> str:
    """Objects as YAML, one document each, without anchors: every document can be read on its own."""
    return "---\n".join(yaml.dump(document, sort_keys=False, width=1000, Dumper=_PlainDumper) for document in objects)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
