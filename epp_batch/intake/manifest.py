"""Reads manifests: CSV, TSV or JSON-lines files with one recording per row.

Columns, each under any of its names: source (path, file, url, audio, audio_filepath); model; stem (name, output, id);
reference (reference_path); seconds (duration). Other columns are ignored, unless the name is close to a known one (a
likely typo). Paths are relative to the manifest.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epp_batch.errors import InputError
from epp_batch.intake.sources import MANIFEST_SUFFIXES, AudioSource, source_from_path, source_from_url
from epp_batch.spec import is_url

COLUMNS = {
    "source": "source", "path": "source", "file": "source", "url": "source", "audio": "source",
    "audio_filepath": "source", "model": "model", "stem": "stem", "name": "stem", "output": "stem", "id": "stem",
    "reference": "reference", "reference_path": "reference", "seconds": "seconds", "duration": "seconds",
}  # fmt: skip


def is_manifest(source: str) -> bool:
    """Whether a SOURCE is an existing file with the suffix of a manifest."""
    return Path(source).suffix.lower() in MANIFEST_SUFFIXES and Path(source).is_file()


def read_manifest(path: Path) -> list[AudioSource]:
    """The sources of all rows. Raises InputError with the path and line of the first invalid row."""
    rows = _read_csv_rows(path) if path.suffix.lower() in {".csv", ".tsv"} else _read_json_rows(path)
    try:
        found = [_parse_row(path, line, row) for line, row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {error}", remedy="give a CSV, TSV or JSON-lines file in UTF-8") from error
    if not found:
        raise InputError(f"{path}: no rows", remedy="give one row per recording, below a line of column names")
    return found


def _read_csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
        file.seek(0)
        reader = csv.DictReader(file, delimiter=delimiter)
        _check_columns(path, list(reader.fieldnames or ()))
        for row in reader:
            if None in row:
                raise InputError(
                    f"{path}:{reader.line_num}: more cells than columns",
                    remedy="quote cells that contain the delimiter",
                )
            yield reader.line_num, row


def _read_json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if text.strip():
                try:
                    row = json.loads(text)
                except ValueError as error:
                    raise InputError(
                        f"{path}:{line}: invalid JSON: {error}", remedy="give one object per line"
                    ) from error
                if not isinstance(row, dict):
                    raise InputError(f"{path}:{line}: not a JSON object", remedy='write {"source": "call.mp3"}')
                _check_columns(path, list(row))
                yield line, row


def _check_columns(path: Path, names: list[str]) -> None:
    known: dict[str, str] = {}
    for name in names:
        column = COLUMNS.get(name.strip().lower())
        if column is None:
            if near := difflib.get_close_matches(name.strip().lower(), COLUMNS, n=1, cutoff=0.8):
                raise InputError(f"{path}: column {name!r} is unknown", remedy=f"did you mean {near[0]!r}?")
        elif known.setdefault(column, name) != name:
            raise InputError(f"{path}: columns {known[column]!r} and {name!r} mean the same", remedy="remove one")
    if "source" not in known:
        accepted = ", ".join(name for name, column in COLUMNS.items() if column == "source")
        raise InputError(
            f"{path}: column 'source' missing", remedy=f"name the column of the recordings one of {accepted}"
        )


def _parse_row(path: Path, line: int, row: dict[str, Any]) -> AudioSource:
    cells: dict[str, str] = {}
    for name, value in row.items():
        column = COLUMNS.get(name.strip().lower())
        if column is not None and value not in {None, ""}:
            cells[column] = str(value).strip()
    source = cells.get("source")
    if not source:
        raise InputError(f"{path}:{line}: source missing", remedy="give a path or URL in every row")
    reference = cells.get("reference")
    found = source_from_url(source) if is_url(source) else source_from_path(path.parent / source, path.parent)
    return found._replace(
        model=cells.get("model"),
        stem=cells.get("stem"),
        reference=str((path.parent / reference).absolute()) if reference else None,
        seconds=_parse_seconds(path, line, cells.get("seconds")),
    )


def _parse_seconds(path: Path, line: int, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"{path}:{line}: invalid seconds {text!r}", remedy="give a number above 0, or leave it empty")
    return seconds
