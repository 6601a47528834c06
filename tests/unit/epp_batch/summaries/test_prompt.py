"""Prompts: trimming to a token budget, estimates, cuts between words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.summaries.prompt import OMISSION_MARK, cut_text, estimate_tokens, fit_prompt
from epp_batch.summaries.settings import DEFAULT_TEMPLATE, SummarySettings

TALK = " ".join(f"In quarter {n} revenue rose by {n % 17} percent." for n in range(1, 400))


async def four_bytes(text):
    return len(text.encode()) // 4


async def no_counter(text):
    return None


async def never_called(text):
    raise AssertionError("the prompt must not be counted")


async def test_default_template():
    prompt = await fit_prompt("good morning", SummarySettings(), None, never_called)
    assert prompt.text == "Summarize this company earnings call audio transcript: [good morning]"
    assert prompt.trim is None


async def test_prompt_with_fewer_bytes_than_the_budget_is_not_counted():
    assert (await fit_prompt("good morning", SummarySettings(), 200, never_called)).trim is None


async def test_prompt_within_the_budget_is_not_trimmed():
    prompt = await fit_prompt(TALK, SummarySettings(), len(TALK) // 3, four_bytes)
    assert TALK in prompt.text
    assert prompt.trim is None


@pytest.mark.parametrize("keep", ["start", "ends"])
async def test_long_transcript_is_trimmed_to_the_budget(keep):
    prompt = await fit_prompt(TALK, SummarySettings(keep=keep), 1000, four_bytes)
    assert 950 <= await four_bytes(prompt.text) <= 1000
    trim = prompt.trim
    assert (trim.counted, trim.keep, trim.from_characters) == ("server", keep, len(TALK))
    assert trim.to_tokens == await four_bytes(prompt.text)
    assert trim.from_tokens == await four_bytes(DEFAULT_TEMPLATE.replace("{transcript}", TALK))
    assert trim.to_characters == len(prompt.text) - len(DEFAULT_TEMPLATE.replace("{transcript}", ""))


async def test_unevenly_distributed_tokens():
    async def uneven(text):
        return text.count("x") + len(text.encode()) // 4

    prompt = await fit_prompt("x " * 3000 + "a " * 30_000, SummarySettings(), 800, uneven)
    assert 700 <= await uneven(prompt.text) <= 800


async def test_lengths_are_estimated_without_a_counter():
    prompt = await fit_prompt(TALK, SummarySettings(), 500, no_counter)
    assert prompt.trim.counted == "estimate"
    assert estimate_tokens(prompt.text) <= 500


async def test_keep_ends():
    text = (await fit_prompt(TALK, SummarySettings(keep="ends"), 1000, four_bytes)).text
    assert TALK[:300] in text
    assert TALK[-300:] in text
    assert OMISSION_MARK in text


async def test_budget_below_the_template():
    prompt = await fit_prompt(TALK, SummarySettings(), 3, four_bytes)
    assert prompt.text == DEFAULT_TEMPLATE.replace("{transcript}", "")
    assert prompt.trim.to_characters == 0


@given(st.text(max_size=200), st.integers(0, 220), st.sampled_from(["start", "ends"]))
def test_cut_text_respects_the_size(text, size, keep):
    piece = cut_text(text, size, keep)
    assert len(piece) <= max(size, 0)
    assert text.startswith(piece.split(OMISSION_MARK)[0])


def test_cut_text_between_words():
    assert cut_text("alpha beta gamma", 12, "start") == "alpha beta"
    assert cut_text("alpha beta gamma", 10, "start") == "alpha beta"
    assert cut_text("alphabetagamma", 5, "start") == "alpha"
