"""Gathering recordings: naming, manifests, and failures of unreadable sources."""

from __future__ import annotations

import os

import pytest

from epp_batch.errors import FailureKind, InputError
from epp_batch.intake import ModelRules, build_units, gather_recordings
from epp_batch.intake.digest_cache import hash_file
from epp_batch.spec import Run, TranscriptionOptions
from tests.unit.epp_batch.intake.conftest import record


def save_as_submitted(folder, gathered):
    """Saves a run of these recordings, as a submission does."""
    made = build_units(gathered.recordings, ModelRules([], "base"), TranscriptionOptions(), run="r")
    folder.save_run(Run(name="r", output=str(folder.root), options=TranscriptionOptions(), units=tuple(made)))


def test_folder_is_expanded_named_hashed_and_probed(audio, folder):
    record(audio / "a.wav", 1.0)
    record(audio / "sub" / "b.mp3", 2.0)
    seen = []
    found = gather_recordings([str(audio)], folder, on_progress=lambda done, total: seen.append((done, total)))
    assert [(one.source, one.stems) for one in found.recordings] == [
        (str(audio / "a.wav"), ("a",)),
        (str(audio / "sub" / "b.mp3"), ("sub/b",)),
    ]
    assert found.recordings[0].sha256 == hash_file(str(audio / "a.wav"))
    assert found.recordings[1].seconds == pytest.approx(2.0, abs=0.2)
    assert found.recordings[0].size == (audio / "a.wav").stat().st_size
    assert seen == [(1, 2), (2, 2)]


def test_unreadable_files_become_failures(audio, folder):
    record(audio / "good.wav", 1.0)
    (audio / "empty.mp3").touch()
    (audio / "bad.mp3").write_bytes(b"no audio" * 1000)
    found = gather_recordings([str(audio)], folder)
    assert [one.stems for one in found.recordings] == [("good",)]
    assert {failure.kind for failure in found.failures} == {"corrupt"}
    found.save_failures(folder, 1.5)
    failure = folder.load_failure("empty")
    assert (failure.stage, failure.message, failure.at) == ("probe", "the file is empty", 1.5)
    assert failure.remedy == FailureKind.CORRUPT.remedy


def test_without_probing_files_are_only_hashed(audio, folder):
    (audio / "bad.mp3").write_bytes(b"no audio" * 1000)
    (audio / "empty.mp3").touch()
    found = gather_recordings([str(audio)], folder, probe_lengths=False)
    assert [(one.stems, one.seconds) for one in found.recordings] == [(("bad",), None)]
    assert [failure.message for failure in found.failures] == ["the file is empty"]


def test_stems_are_stable_between_submissions(audio, folder):
    record(audio / "x" / "call.wav", 1.0)
    first = gather_recordings([str(audio / "x" / "call.wav")], folder)
    save_as_submitted(folder, first)
    record(audio / "b" / "call.wav", 1.0, tone=330)
    both = gather_recordings([str(audio / "b" / "call.wav"), str(audio / "x" / "call.wav")], folder)
    assert [one.stems for one in both.recordings] == [("b/call",), ("call",)]


def test_manifest_sets_model_stem_and_reference(audio, folder):
    record(audio / "a.wav", 1.0)
    (audio / "m.csv").write_text("file,model,stem,reference\na.wav,tiny,first,a.txt\na.wav,large,,\nnone.wav,tiny,,\n")
    found = gather_recordings([str(audio / "m.csv"), str(audio)], folder)
    assert [one.stems for one in found.recordings] == [("first",), ("a-large",)]
    assert found.recordings[0].reference == str(audio / "a.txt")
    assert found.models_by_stem == {"first": "tiny", "a-large": "large", "none": "tiny"}
    assert [(failure.kind, failure.message) for failure in found.failures] == [("missing", "no such file")]
    made = build_units(
        found.recordings, ModelRules(["base"], "base", found.models_by_stem), TranscriptionOptions(), run="r"
    )
    assert [(unit.model, unit.tasks[0].stem) for unit in made] == [("tiny", "first"), ("large", "a-large")]


def test_references_are_found_by_stem(audio, folder, tmp_path):
    record(audio / "sub" / "a.wav", 1.0)
    (tmp_path / "texts" / "sub").mkdir(parents=True)
    (tmp_path / "texts" / "sub" / "a.txt").write_text("hello")
    found = gather_recordings([str(audio)], folder, references=str(tmp_path / "texts"))
    assert found.recordings[0].reference == str(tmp_path / "texts" / "sub" / "a.txt")


def test_relative_to_sets_the_base_of_names(audio, folder, tmp_path):
    record(audio / "sub" / "a.wav", 1.0)
    found = gather_recordings([str(audio / "sub" / "a.wav")], folder, relative_to=str(tmp_path))
    assert found.recordings[0].stems == ("audio/sub/a",)
    with pytest.raises(InputError, match="not below --relative-to"):
        gather_recordings([str(audio)], folder, relative_to=str(tmp_path / "other"))


def test_url_digest_is_of_its_text(folder):
    found = gather_recordings(["http://127.0.0.1:9/a.mp3"], folder, probe_lengths=False)
    other = gather_recordings(["http://127.0.0.1:9/b.mp3"], folder, probe_lengths=False)
    assert len(found.recordings[0].sha256) == 64
    assert found.recordings[0].sha256 != other.recordings[0].sha256


def test_file_name_that_is_not_utf8_fails(audio, folder):
    record(audio / "good.wav", 1.0)
    bad = os.fsencode(str(audio)) + b"/caf\xe9.wav"
    os.rename(record(audio / "x.wav", 1.0), bad)
    found = gather_recordings([str(audio)], folder)
    assert [one.stems for one in found.recordings] == [("good",)]
    assert "rename it" in found.failures[0].message
    found.save_failures(folder, 0.0)


def test_empty_source_list_is_rejected(folder):
    with pytest.raises(InputError, match="no sources"):
        gather_recordings([], folder)
