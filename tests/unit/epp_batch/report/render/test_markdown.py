"""Reports as Markdown."""

from __future__ import annotations

import re

from epp_batch.report.render import render_markdown


def test_markdown_is_escaped_and_tables_keep_their_columns(failed):
    rows = [line for line in render_markdown(failed).splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in rows]
    heads = [count for line, count in zip(rows, bars, strict=True) if set(line) <= set("|-:")]
    assert set(bars) == set(heads)
    assert not re.search(r"(?<!\\)[<`*_]", "\n".join(rows))
