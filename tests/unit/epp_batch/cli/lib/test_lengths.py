"""Recordings of `plan --lengths`."""

from __future__ import annotations

from pathlib import Path

import pytest

from epp_batch.cli.lib.lengths import read_lengths
from epp_batch.errors import InputError


def test_rows_are_recordings_with_stems_of_their_own(tmp_path: Path):
    path = tmp_path / "lengths.csv"
    path.write_text("source,seconds,model\na/call.mp3,60,tiny\nb/call.mp3,1e2,\n")
    recordings, models = read_lengths(path)
    assert [(one.source, one.stems, one.seconds) for one in recordings] == [
        ("a/call.mp3", ("1-call",), 60.0),
        ("b/call.mp3", ("2-call",), 100.0),
    ]
    assert models == {"1-call": "tiny"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,seconds\na,1\nb,\n", ":3: source 'b', seconds ''"),
        ("source,seconds\n,5\n", ":2: source '', seconds '5'"),
        ("source,seconds\na,inf\n", ":2: source 'a', seconds 'inf'"),
        ("source,seconds\na,nan\n", ":2: source 'a', seconds 'nan'"),
        ("name,seconds\na,5\n", ":2: source '', seconds '5'"),
        ("source,seconds\n", ": no rows"),
    ],
)
def test_an_invalid_row_is_rejected_with_its_line(tmp_path: Path, text: str, message: str):
    path = tmp_path / "lengths.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_lengths(path)
    assert f"{path}{message}" in str(caught.value)


def test_a_file_that_is_not_text_is_rejected(tmp_path: Path):
    (tmp_path / "lengths.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_lengths(tmp_path / "lengths.csv")
