"""`epp-batch summarize`: invalid flags, missing folder, exit code."""

from __future__ import annotations

import pytest

from epp_batch.__main__ import main
from epp_batch.cli.lib import summary_flags

CLOSED_PORT = "--url=http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--prompt=Say it."], "write {transcript} where the transcript belongs"),
        (["--extra=[1]"], "not a JSON object"),
        (["--extra={"], "extra fields of summary requests are not JSON: Expecting"),
        (["--header=x"], "invalid header of summary requests 'x'; write NAME=VALUE"),
        (["--concurrency=0"], "give 1 or more"),
        (["--prompt=@/nowhere"], "give a text file after @"),
        (["--patience=0"], "no finished transcript; transcribe into it first"),
    ],
)
def test_invalid_flags_are_rejected(tmp_path, capsys, words, complaint):
    assert main(["summarize", str(tmp_path), CLOSED_PORT, *words]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("epp-batch summarize: ")
    assert complaint in last


def test_missing_folder_is_an_error(tmp_path, capsys):
    assert main(["summarize", str(tmp_path / "nowhere"), CLOSED_PORT]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_failed_summary_gives_exit_code_1(harness, tmp_path, capsys):
    harness.write_transcript()
    assert main(["summarize", str(harness.folder.root), CLOSED_PORT, "--model=llm", "--patience=0"]) == 1
    output, errors = capsys.readouterr()
    assert output == "0 summarised, 0 there already, 1 failed\n"
    assert "the gateway does not answer yet" in errors
    assert "call.mp3: summary: no answer in 0 s" in errors


def test_every_flag_is_parsed():
    import argparse

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
