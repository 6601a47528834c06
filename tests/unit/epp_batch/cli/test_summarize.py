"""`epp-batch summarize`: invalid flags, missing folder, exit code."""

from __future__ import annotations

import pytest

from epp_batch.__main__ import main
from epp_batch.output_folder import OutputFolder
from tests.unit.epp_batch.summaries.conftest import write_transcript

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


def test_failed_summary_gives_exit_code_1(tmp_path, capsys):
    folder = OutputFolder(tmp_path / "out")
    write_transcript(folder)
    assert main(["summarize", str(folder.root), CLOSED_PORT, "--model=llm", "--patience=0"]) == 1
    output, errors = capsys.readouterr()
    assert output == "0 summarised, 0 there already, 1 failed\n"
    assert "the gateway does not answer yet" in errors
    assert "call.mp3: summary: no answer in 0 s" in errors
