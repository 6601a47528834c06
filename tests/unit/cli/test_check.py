"""`epp check`: where the configuration comes from, and what is printed of it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from epp.__main__ import main
from epp.config import presets

HEADER = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def test_the_effective_configuration_of_a_file_has_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HEADER + "plugins: [{type: queue-scorer}]")
    assert main(["check", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "type: queue-scorer" in printed
    assert "type: max-score-picker" in printed


def test_the_effective_configuration_is_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["check"]) == 0
    printed = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(printed))
    assert main(["check", "-"]) == 0
    assert capsys.readouterr().out == printed


def test_presets_are_listed_and_checked_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--presets"]) == 0
    names = capsys.readouterr().out.split()
    assert names == list(presets.preset_names())
    assert all(main(["check", name]) == 0 for name in names)


def test_every_problem_is_printed_with_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HEADER + "plugins: [{type: queue-scorer, nme: q}, {type: nope}]")
    assert main(["check", str(path)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"epp check: {path}: 2 problems in the configuration")
    assert "plugins[0].nme" in printed
    assert "plugins[1].type" in printed


def test_a_file_that_cannot_be_read_is_reported_with_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "no-such-preset"]) == 2
    printed = capsys.readouterr().err
    assert "no-such-preset: cannot be read: " in printed
    assert f"the presets are {', '.join(presets.preset_names())}" in printed
