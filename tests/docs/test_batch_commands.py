"""Every `epp-batch` line of the documents is one that the command understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from epp_batch.__main__ import COMMANDS, parse_arguments

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "batch.md", ROOT / "docs" / "paper.md"]
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def lines():
    """Each command once, continued lines joined, comments gone."""
    for document in DOCUMENTS:
        for block in BLOCK.findall(document.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("epp-batch "):
                    yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("words", list(lines()), ids=" ".join)
def test_a_line_as_it_stands_in_a_document(words):
    assert parse_arguments(words).command == words[0]


def test_the_guide_names_every_command():
    text = (ROOT / "docs" / "batch.md").read_text()
    assert [name for name, _ in COMMANDS if not re.search(rf"`[^`]*\b{name}\b[^`]*`|epp-batch {name}\b", text)] == []
