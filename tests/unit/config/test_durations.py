"""Go's duration strings."""

from __future__ import annotations

import pytest

from epp.config.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "value"), [("50ms", 0.05), ("1m30s", 90), ("0", 0), ("1.5s", 1.5), ("2h", 7200), (".5s", 0.5)]
)
def test_durations_in_seconds(text: str, value: float) -> None:
    assert parse_duration(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "1s!", "-1s"])
def test_invalid_durations(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)
