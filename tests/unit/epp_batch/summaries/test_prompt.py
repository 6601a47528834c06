"""Prompts fit, are cut between words, and what was cut is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.summaries.prompt import OMISSION_MARK, cut_text, estimate_tokens, fit_prompt
from epp_batch.summaries.settings import DEFAULT_TEMPLATE, SummarySettings

TALK = " ".join(f"In quarter {n} revenue rose by {n % 17} percent." for n in range(1, 400))


async def four_bytes(text):
    return len(text.encode()) // 4


async def nobody(text):
    return None


async def unasked(text):
    raise AssertionError("nothing needs counting")


async def test_the_paper_s_form():
    prompt = await fit_prompt("good morning", SummarySettings(), None, unasked)
    assert prompt.text == "Summarize this company earnings call audio transcript: [good morning]"
    assert prompt.trim is None


async def test_what_fits_by_bytes_alone_is_not_counted():
    assert (await fit_prompt("good morning", SummarySettings(), 200, unasked)).trim is None


async def test_what_fits_when_counted_is_whole():
    prompt = await fit_prompt(TALK, SummarySettings(), len(TALK) // 3, four_bytes)
    assert TALK in prompt.text
    assert prompt.trim is None


@pytest.mark.parametrize("keep", ["start", "ends"])
async def test_a_long_talk_is_trimmed_to_its_budget_and_little_below(keep):
    prompt = await fit_prompt(TALK, SummarySettings(keep=keep), 1000, four_bytes)
    assert 950 <= await four_bytes(prompt.text) <= 1000
    trim = prompt.trim
    assert (trim.counted, trim.keep, trim.from_characters) == ("server", keep, len(TALK))
    assert trim.to_tokens == await four_bytes(prompt.text)
    assert trim.from_tokens == await four_bytes(DEFAULT_TEMPLATE.replace("{transcript}", TALK))
    assert trim.to_characters == len(prompt.text) - len(DEFAULT_TEMPLATE.replace("{transcript}", ""))


async def test_a_token_that_is_rare_at_the_start_does_not_mislead():
    async def uneven(text):
        return text.count("x") + len(text.encode()) // 4

    prompt = await fit_prompt("x " * 3000 + "a " * 30_000, SummarySettings(), 800, uneven)
    assert 700 <= await uneven(prompt.text) <= 800


async def test_without_a_server_that_counts_lengths_are_estimated():
    prompt = await fit_prompt(TALK, SummarySettings(), 500, nobody)
    assert prompt.trim.counted == "estimate"
    assert estimate_tokens(prompt.text) <= 500


async def test_ends_keep_the_start_and_the_end():
    text = (await fit_prompt(TALK, SummarySettings(keep="ends"), 1000, four_bytes)).text
    assert TALK[:300] in text
    assert TALK[-300:] in text
    assert OMISSION_MARK in text


async def test_a_budget_below_the_template_leaves_the_template():
    prompt = await fit_prompt(TALK, SummarySettings(), 3, four_bytes)
    assert prompt.text == DEFAULT_TEMPLATE.replace("{transcript}", "")
    assert prompt.trim.to_characters == 0


@given(st.text(max_size=200), st.integers(0, 220), st.sampled_from(["start", "ends"]))
def test_a_cut_is_never_longer_than_asked_and_starts_like_the_text(text, size, keep):
    piece = cut_text(text, size, keep)
    assert len(piece) <= max(size, 0)
    assert text.startswith(piece.split(OMISSION_MARK)[0])


def test_words_stay_whole():
    assert cut_text("alpha beta gamma", 12, "start") == "alpha beta"
    assert cut_text("alpha beta gamma", 10, "start") == "alpha beta"
    assert cut_text("alphabetagamma", 5, "start") == "alpha"
