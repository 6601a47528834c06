"""Expands SOURCE arguments (files, folders, globs, http(s) URLs) to audio sources, without opening files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from epp_batch.errors import InputError
from epp_batch.spec import is_url

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".au", ".avi", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".m4v",
    ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".mpga", ".oga", ".ogg", ".opus", ".ra", ".sph",
    ".spx", ".ts", ".wav", ".webm", ".wma", ".wmv",
})
# fmt: on
MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})


class AudioSource(NamedTuple):
    """One requested recording, not yet opened."""

    location: str
    """Absolute path, or http(s) URL."""
    name_parts: tuple[str, ...]
    """Path components of its preferred output name, without suffix."""
    model: str | None = None
    stem: str | None = None
    """Output stem requested by a manifest; takes precedence over `name_parts`."""
    reference: str | None = None
    seconds: float | None = None


def expand_sources(sources: Sequence[str], skip: Path) -> list[AudioSource]:
    """The audio sources of `sources` without duplicates, in order; folders are walked in order of their paths.

    Files below `skip`, the output folder, are ignored. Manifests are read by `manifest.read_manifest`. Raises
    InputError for a source that matches nothing.
    """
    found: dict[str, AudioSource] = {}
    for source in sources:
        for each in _expand_source(source, skip.absolute()):
            found.setdefault(each.location, each)
    return list(found.values())


def _expand_source(source: str, skip: Path) -> Iterator[AudioSource]:
    if is_url(source):
        yield source_from_url(source)
    elif "://" in source and not source.startswith("file://"):
        scheme = source.partition("://")[0]
        raise InputError(f"{source}: {scheme}:// is not supported", remedy="mount it, or give signed https URLs")
    else:
        yield from _expand_path(source, skip)


def _expand_path(source: str, skip: Path) -> Iterator[AudioSource]:
    path = Path(unquote(urlsplit(source).path) if source.startswith("file://") else source).expanduser()
    if path.is_dir():
        yield from _expand_folder(path, path, skip, source)
    elif path.exists():
        yield source_from_path(path, path.parent)
    elif glob.has_magic(source):
        yield from _expand_glob(source, skip)
    else:
        raise InputError(f"{source}: no such file or folder", remedy="check the path")


def source_from_path(path: Path, base: Path) -> AudioSource:
    """A file, named by its path relative to `base`; by its file name if it is not below `base`."""
    absolute = Path(os.path.abspath(path))
    try:
        relative = absolute.relative_to(os.path.abspath(base))
    except ValueError:
        relative = Path(absolute.name)
    return AudioSource(str(absolute), (*relative.parts[:-1], relative.stem))


def source_from_url(url: str) -> AudioSource:
    """A URL, named by the last component of its path."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise InputError(f"{url}: host missing in URL", remedy="write https://host/path/call.mp3")
    last = PurePosixPath(unquote(parts.path)).name
    return AudioSource(url, (PurePosixPath(last).stem if last else parts.hostname,))


def _expand_folder(folder: Path, base: Path, skip: Path, source: str) -> Iterator[AudioSource]:
    other_files = 0
    found = False
    for path in _walk_files(folder, skip):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            found = True
            yield source_from_path(path, base)
        else:
            other_files += 1
    if not found:
        others = f" ({other_files} other file{'s' if other_files != 1 else ''})" if other_files else ""
        raise InputError(f"{source}: no audio in this folder{others}", remedy="name files or a glob for other suffixes")


def _walk_files(folder: Path, skip: Path) -> Iterator[Path]:
    """Files below `folder` in order of their paths, without hidden files and without the output folder `skip`."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}", remedy="make it readable, or name its files") from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(root, name).absolute() != skip
        )
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _expand_glob(pattern: str, skip: Path) -> Iterator[AudioSource]:
    """Matching files with an audio suffix or with the suffix written in the pattern; matching folders are walked."""
    base = _glob_base(pattern)
    skip_output = skip not in (base.absolute(), *base.absolute().parents)
    literal = PurePosixPath(pattern).suffix.lower()
    suffixes = AUDIO_SUFFIXES if not literal or glob.has_magic(literal) else AUDIO_SUFFIXES | {literal}
    recursive = pattern.rstrip("/").endswith("**")  # glob itself lists the files below each folder
    found = False
    for path in map(Path, sorted(glob.glob(os.path.expanduser(pattern), recursive=True))):
        for file in _walk_files(path, skip) if path.is_dir() and not recursive else [path]:
            if (
                file.suffix.lower() in suffixes
                and file.is_file()
                and not (skip_output and skip in file.absolute().parents)
            ):
                found = True
                yield source_from_path(file, base)
    if not found:
        raise InputError(f"{pattern}: no audio matches", remedy="check the pattern, and that it is in quotes")


def _glob_base(pattern: str) -> Path:
    """The folder part of a pattern before its first wildcard."""
    fixed = re.split(r"[*?\[]", os.path.expanduser(pattern), maxsplit=1)[0]
    return Path(fixed if fixed.endswith("/") else os.path.dirname(fixed) or ".")
