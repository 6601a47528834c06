"""Recordings known by their lengths only: a CSV file instead of audio, for `plan --lengths`."""

from __future__ import annotations

import csv
from pathlib import Path

from epp_batch.errors import InputError
from epp_batch.spec import Recording


def read_lengths(path: Path) -> tuple[list[Recording], dict[str, str]]:
    """Recordings of a CSV with the columns `source` and `seconds`; models by stem, from an optional column `model`.

    Raises InputError with file and line if the file or a row is invalid.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}", remedy="give a CSV file") from error
    recordings, models = [], {}
    for line, row in enumerate(rows, 2):
        source, seconds_text = row.get("source") or "", row.get("seconds") or ""
        try:
            seconds = float(seconds_text)
        except ValueError:
            seconds = -1.0
        if not source or not 0 < seconds < float("inf"):
            remedy = "both columns are required, with seconds above 0"
            raise InputError(f"{path}:{line}: source {source!r}, seconds {seconds_text!r}", remedy=remedy)
        stem = f"{line - 1}-{Path(source).stem}"
        recordings.append(Recording(source=source, stems=(stem,), seconds=seconds))
        if row.get("model"):
            models[stem] = str(row["model"])
    if not recordings:
        raise InputError(f"{path}: no rows", remedy="begin with `source,seconds,model`, then one line per recording")
    return recordings, models
