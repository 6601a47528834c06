"""`epp plugins`: the list of types, and the catalogue entries of some."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from epp.__main__ import main
from epp.config.registry import PluginRegistry


def test_every_type_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["TYPE", "KIND", "PACKAGE"]
    assert any(line.split()[:3] == ["queue-scorer", "scorer", "endpoint-picker"] for line in lines)


def test_types_of_a_broken_package_are_reported_after_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [EntryPoint("gone", "no.such:Thing", "epp.plugins"), EntryPoint("q", "scorers.queue:QueueScorer", "")]
    registry = PluginRegistry.load(points)
    monkeypatch.setattr(PluginRegistry, "load", lambda: registry)
    assert main(["plugins"]) == 2
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["TYPE", "q"]
    assert printed.err.startswith(
        "epp plugins: plugin 'gone' of an unknown package cannot be imported from no.such:Thing"
    )


def test_entries_of_the_types_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "queue-scorer"]) == 0
    assert capsys.readouterr().out.startswith("## Scorers\n\n### `queue-scorer`\n")
    assert main(["plugins", "que-scorer"]) == 2
    assert "unknown plugin type 'que-scorer'; did you mean queue-scorer?" in capsys.readouterr().err
