"""Expansion of SOURCE arguments: files, folders, globs and URLs."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.intake.sources import expand_sources


@pytest.fixture
def tree(tmp_path):
    for name in ("b.mp3", "a.wav", "notes.txt", "sub/c.flac", ".hidden/d.mp3", ".e.mp3", "out/f.mp3", "odd.dat"):
        path = tmp_path / "calls" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "calls"


def names(tree, *sources):
    return ["/".join(found.name_parts) for found in expand_sources([str(source) for source in sources], tree / "out")]


def test_folder_is_walked_in_order_without_hidden_files_and_output(tree):
    assert names(tree, tree) == ["a", "b", "sub/c"]


def test_output_folder_equal_to_the_source_is_walked(tree):
    for source in (tree, tree / "**"):
        assert ["/".join(found.name_parts) for found in expand_sources([str(source)], tree)] == [
            "a",
            "b",
            "out/f",
            "sub/c",
        ]


def test_named_file_may_have_any_suffix(tree):
    assert names(tree, tree / "odd.dat", tree / "sub/c.flac") == ["odd", "c"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.mp3", ["b"]),
        ("*", ["a", "b", "c"]),
        ("**", ["a", "b", "sub/c"]),
        ("**/*.flac", ["sub/c"]),
        ("*.dat", ["odd"]),
        ("s*", ["c"]),
        ("[ab].*", ["a", "b"]),
    ],
)
def test_glob(tree, pattern, found):
    assert (
        sorted(name.split("/")[-1] if pattern in {"*", "s*"} else name for name in names(tree, tree / pattern)) == found
    )


def test_duplicate_source_is_listed_once(tree):
    assert names(tree, tree, tree / "b.mp3", f"file://{tree}/a.wav") == ["a", "b", "sub/c"]


def test_url_is_named_by_its_path_or_host(tree):
    assert names(tree, "https://h/x/call%20one.mp3?sig=1", "http://h/") == ["call one", "h"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("none.mp3", "no such file or folder"),
        ("*.ogg", "no audio matches"),
        ("s3://bucket/key", "s3:// is not supported; mount it"),
        ("http:///x.mp3", "host missing in URL"),
    ],
)
def test_source_that_matches_nothing_is_rejected(tree, source, what):
    source = source if "//" in source else str(tree / source)
    with pytest.raises(InputError, match=what):
        expand_sources([source], tree / "out")


def test_folder_without_audio_is_rejected(tmp_path):
    (tmp_path / "x.txt").touch()
    with pytest.raises(InputError, match=r"no audio in this folder \(1 other file\); name files"):
        expand_sources([str(tmp_path)], tmp_path / "out")


def test_source_path_is_absolute(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert expand_sources(["b.mp3"], tree / "out")[0].location == str(tree / "b.mp3")
