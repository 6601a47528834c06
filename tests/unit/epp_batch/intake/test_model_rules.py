"""Which model transcribes which recording."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.intake.model_rules import ModelRules
from epp_batch.spec import Recording


def recording(seconds=None, source="/calls/en/a.mp3", stem="en/a"):
    return Recording(source=source, stems=(stem,), seconds=seconds)


def test_the_default_and_a_bare_name():
    assert ModelRules([], "base").select_model(recording()) == "base"
    assert ModelRules(["large"], "base").select_model(recording()) == "large"


@pytest.mark.parametrize(
    ("rule", "seconds", "fits"),
    [
        (">30m=big", 1801, True),
        (">30m=big", 1800, False),
        (">=30m=big", 1800, True),
        ("<90s=big", 89, True),
        ("<90=big", 90, False),
        ("<=1.5h=big", 5400, True),
        (">1s=big", None, False),
        ("<1h=big", None, False),
    ],
)
def test_by_length(rule, seconds, fits):
    assert (ModelRules([rule], "base").select_model(recording(seconds)) == "big") is fits


def test_unknown_lengths_are_counted_where_they_matter():
    recordings = [recording(10), recording(None)]
    assert ModelRules([">1s=big"], "base").count_unknown_lengths(recordings) == 1
    assert ModelRules(["*.mp3=big"], "base").count_unknown_lengths(recordings) == 0


@pytest.mark.parametrize("pattern", ["*.mp3", "/calls/en/*", "en/*", "a.mp3", "*/en/*"])
def test_by_path_last_part_or_output_name(pattern):
    assert ModelRules([f"{pattern}=big"], "base").select_model(recording()) == "big"
    assert ModelRules([f"{pattern}=big"], "base").select_model(recording(source="/x/b.wav", stem="b")) == "base"


def test_the_first_that_fits_counts_wherever_the_bare_name_stands():
    rules = ModelRules(["medium", "*.wav=tiny", ">1h=large"], "base")
    assert rules.select_model(recording(7200, source="/x/b.wav", stem="b")) == "tiny"
    assert rules.select_model(recording(7200)) == "large"
    assert rules.select_model(recording(10)) == "medium"


def test_a_manifest_goes_before_all():
    assert ModelRules(["*=tiny"], "base", {"en/a": "large"}).select_model(recording()) == "large"


def test_names_of_hubs_and_folders():
    assert (
        ModelRules(["Systran/faster-whisper-large-v3"], "base").select_model(recording())
        == "Systran/faster-whisper-large-v3"
    )


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (["tiny", "base"], "tiny and base for all"),
        (["=tiny"], "names no model"),
        (["*.mp3="], "names no model"),
        ([">soon=tiny"], "is no length"),
        ([">30x=tiny"], "is no length"),
    ],
)
def test_rules_that_make_no_sense(texts, what):
    with pytest.raises(InputError, match=what):
        ModelRules(texts, "base")
