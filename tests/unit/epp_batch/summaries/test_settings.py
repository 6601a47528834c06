"""The key that tells whether an existing summary answers the present question."""

from __future__ import annotations

from typing import Any

import pytest

from epp_batch.summaries.settings import SummarySettings

KEY = SummarySettings().key("transcript", "llm")


@pytest.mark.parametrize(
    "changes",
    [
        {"template": "In short: {transcript}"},
        {"max_tokens": 9},
        {"max_prompt_tokens": 9},
        {"keep": "ends"},
        {"temperature": 0.0},
        {"extra": {"seed": 1}},
    ],
)
def test_another_question_has_another_key(changes: dict[str, Any]):
    assert SummarySettings(**changes).key("transcript", "llm") != KEY


def test_another_transcript_or_model_has_another_key():
    assert len({KEY, SummarySettings().key("other", "llm"), SummarySettings().key("transcript", "other")}) == 3


@pytest.mark.parametrize(
    "changes", [{"headers": {"x-a": "b"}}, {"silence_seconds": 1.0}, {"patience_seconds": 1.0}, {"extra": {}}]
)
def test_how_a_request_is_sent_does_not_change_the_key(changes: dict[str, Any]):
    assert SummarySettings(**changes).key("transcript", "llm") == KEY


def test_the_order_of_extra_fields_does_not_change_the_key():
    one, other = SummarySettings(extra={"a": 1, "b": 2}), SummarySettings(extra={"b": 2, "a": 1})
    assert one.key("t", "m") == other.key("t", "m")
