"""Manifest rows: columns, delimiters, and errors with path and line."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.intake.manifest import is_manifest, read_manifest
from epp_batch.intake.sources import AudioSource


def manifest(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert is_manifest(str(path))
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "path,model,stem,reference,duration,speaker\na.mp3,large,x/y,a.txt,12.5,Bob\n"),
        ("m.csv", "path;model;stem;reference;duration\na.mp3;large;x/y;a.txt;12.5\n"),
        ("m.csv", "\ufeffPath , MODEL,stem,reference,seconds\na.mp3,large,x/y,a.txt,12.5\n"),
        ("m.tsv", "path\tmodel\tstem\treference\tseconds\na.mp3\tlarge\tx/y\ta.txt\t12.5\n"),
        (
            "m.jsonl",
            '\n{"audio_filepath": "a.mp3", "model": "large", "id": "x/y", "reference": "a.txt", "duration": 12.5}\n',
        ),
    ],
)
def test_row_of_every_format(tmp_path, name, text):
    (found,) = read_manifest(manifest(tmp_path, name, text))
    assert found == AudioSource(str(tmp_path / "a.mp3"), ("a",), "large", "x/y", str(tmp_path / "a.txt"), 12.5)


def test_only_the_source_is_required_and_may_be_a_url(tmp_path):
    (found,) = read_manifest(manifest(tmp_path, "m.csv", "url,model\nhttps://h/a.mp3,\n"))
    assert found == AudioSource("https://h/a.mp3", ("a",))


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("m.csv", "", "column 'source' missing"),
        ("m.csv", "path\n", "no rows"),
        ("m.csv", "file,modle\na.mp3,large\n", "column 'modle' is unknown; did you mean 'model'?"),
        ("m.csv", "file,path\na.mp3,b.mp3\n", "'file' and 'path' mean the same"),
        ("m.csv", "file,model\n,large\n", r"m\.csv:2: source missing"),
        ("m.csv", "file\na.mp3,large\n", r"m\.csv:2: more cells than columns"),
        ("m.csv", "file,seconds\na.mp3,soon\n", r"m\.csv:2: invalid seconds 'soon'"),
        ("m.csv", "file,seconds\na.mp3,-1\n", "invalid seconds '-1'"),
        ("m.jsonl", '{"file": "a.mp3"}\n{"file"\n', r"m\.jsonl:2: invalid JSON"),
        ("m.jsonl", "[1]\n", "not a JSON object"),
    ],
)
def test_invalid_row_is_reported_with_its_line(tmp_path, name, text, what):
    with pytest.raises(InputError, match=what):
        read_manifest(manifest(tmp_path, name, text))


def test_file_that_is_not_utf8_is_rejected(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"file\n\xff\xfe\xfa\n")
    with pytest.raises(InputError, match="in UTF-8"):
        read_manifest(path)
