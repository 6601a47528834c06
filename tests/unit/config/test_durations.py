import pytest

from epp.config.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "value"), [("50ms", 0.05), ("1m30s", 90), ("0", 0), ("1.5s", 1.5), ("2h", 7200), (".5s", 0.5)]
)
def test_durations(text, value):
    assert parse_duration(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "1s!", "-1s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)
