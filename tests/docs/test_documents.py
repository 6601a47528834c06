"""Documents hold together: links lead somewhere, what they show as code works."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from epp.api import Scorer
from epp.cli.flags import LLM_D_FLAGS, OWN_FLAGS, add_arguments
from epp.testing import build_endpoints, build_request, check_scorer

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")
CODE = re.compile(r"`(epp/[\w/]+\.py|bench/[\w/.]+|scorers/[\w.]+|tests/[\w/.]+)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text()
    links = [document.parent / target for target in LINK.findall(text) if "://" not in target]
    files = [ROOT / name for name in CODE.findall(text) if not name.startswith("bench/out/")]
    assert [str(path) for path in (*links, *files) if not path.exists()] == []


def test_the_scorer_in_the_readme_works() -> None:
    source = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert source is not None
    shown: dict[str, type[Scorer]] = {}
    exec(source[1], shown)
    scorer = shown["ShortQueue"]()
    assert scorer.score(build_request(), build_endpoints(waiting=[0, 4, 8])).tolist() == [1.0, 0.5, 0.0]
    check_scorer(scorer)


def test_every_flag_of_our_own_is_listed_among_the_differences() -> None:
    text = (ROOT / "docs" / "differences.md").read_text()
    own = {f"--{flag.name}" for flag in OWN_FLAGS} | {"--endpoint", "--dns"}
    assert sorted(name for name in own if f"`{name}`" not in text) == []


def test_every_flag_says_what_it_does() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert all(flag.help for flag in (*LLM_D_FLAGS, *OWN_FLAGS))
    assert len(parser.format_help()) > 2000
