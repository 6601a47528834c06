"""The --model rules: by length, by pattern, precedence, errors."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.intake.model_rules import ModelRules
from epp_batch.spec import Recording


def recording(seconds=None, source="/calls/en/a.mp3", stem="en/a"):
    return Recording(source=source, stems=(stem,), seconds=seconds)


def test_default_and_bare_model_name():
    assert ModelRules([], "base").select_model(recording()) == "base"
    assert ModelRules(["large"], "base").select_model(recording()) == "large"


@pytest.mark.parametrize(
    ("rule", "seconds", "matches"),
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
def test_length_rule(rule, seconds, matches):
    assert (ModelRules([rule], "base").select_model(recording(seconds)) == "big") is matches


def test_unknown_lengths_are_counted_only_with_length_rules():
    recordings = [recording(10), recording(None)]
    assert ModelRules([">1s=big"], "base").count_unknown_lengths(recordings) == 1
    assert ModelRules(["*.mp3=big"], "base").count_unknown_lengths(recordings) == 0


@pytest.mark.parametrize("pattern", ["*.mp3", "/calls/en/*", "en/*", "a.mp3", "*/en/*"])
def test_glob_matches_path_file_name_or_stem(pattern):
    assert ModelRules([f"{pattern}=big"], "base").select_model(recording()) == "big"
    assert ModelRules([f"{pattern}=big"], "base").select_model(recording(source="/x/b.wav", stem="b")) == "base"


def test_first_matching_rule_wins_and_the_bare_name_is_last():
    rules = ModelRules(["medium", "*.wav=tiny", ">1h=large"], "base")
    assert rules.select_model(recording(7200, source="/x/b.wav", stem="b")) == "tiny"
    assert rules.select_model(recording(7200)) == "large"
    assert rules.select_model(recording(10)) == "medium"


def test_manifest_takes_precedence():
    assert ModelRules(["*=tiny"], "base", {"en/a": "large"}).select_model(recording()) == "large"


def test_model_name_may_contain_a_slash():
    assert (
        ModelRules(["Systran/faster-whisper-large-v3"], "base").select_model(recording())
        == "Systran/faster-whisper-large-v3"
    )


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (["tiny", "base"], "tiny and base both without a condition"),
        (["=tiny"], "model name missing"),
        (["*.mp3="], "model name missing"),
        ([">soon=tiny"], "invalid length '>soon'"),
        ([">30x=tiny"], "invalid length '>30x'"),
    ],
)
def test_invalid_rules_are_rejected(texts, what):
    with pytest.raises(InputError, match=what):
        ModelRules(texts, "base")
