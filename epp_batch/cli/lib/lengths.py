"""Recordings known by their lengths alone: a CSV file in the place of audio, for planning ahead."""

from __future__ import annotations

import csv
from pathlib import Path

from epp_batch.errors import InputError
from epp_batch.spec import Recording


def read_lengths(path: Path) -> tuple[list[Recording], dict[str, str]]:
    """Recordings of a CSV with the columns `source` and `seconds`, and the models by stem where there is a `model`.

    Raises InputError with file and line for what is no such file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}", remedy="give a CSV file") from error
    recordings, models = [], {}
    for line, row in enumerate(rows, 2):
        source, seconds = row.get("source") or "", row.get("seconds") or ""
        try:
            length = float(seconds)
        except ValueError:
            length = -1.0
        if not source or not 0 < length < float("inf"):
            raise InputError(f"{path}:{line}: source {source!r}, seconds {seconds!r}", remedy="both are needed")
        stem = f"{line - 1}-{Path(source).stem}"
        recordings.append(Recording(source=source, stems=(stem,), seconds=length))
        if row.get("model"):
            models[stem] = str(row["model"])
    if not recordings:
        raise InputError(f"{path}: no rows", remedy="a first line `source,seconds,model`, then a recording each")
    return recordings, models
