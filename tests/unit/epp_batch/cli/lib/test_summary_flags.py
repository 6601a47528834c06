"""Flags of summaries, as settings."""

from __future__ import annotations

import argparse

from epp_batch.cli.lib import summary_flags


def test_every_flag_is_parsed():
    parser = argparse.ArgumentParser()
    summary_flags.add_summary_flags(parser)
    words = [
        "--summarize=http://a", "--summarize=http://b", "--summary-prompt=In short: {transcript}",
        "--summary-keep=ends",
        "--summary-max-tokens=9", "--summary-max-prompt-tokens=99", "--summary-temperature=0.5",
        "--summary-header=x-a=b=c", '--summary-extra={"seed": 1}', "--summary-patience=7", "--summary-concurrency=3",
    ]  # fmt: skip
    args = parser.parse_args(words)
    made = summary_flags.parse_settings(args)
    assert args.summarize == ["http://a", "http://b"]
    assert (made.template, made.keep, made.max_tokens, made.max_prompt_tokens) == (
        "In short: {transcript}", "ends", 9, 99,
    )  # fmt: skip
    assert (made.temperature, made.headers, made.extra) == (0.5, {"x-a": "b=c"}, {"seed": 1})
    assert (made.patience_seconds, args.summary_concurrency) == (7.0, 3)
