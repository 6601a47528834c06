"""What a SOURCE stands for: files, folders, globs, manifests, http(s) URLs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from epp_batch.errors import InputError

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".au", ".avi", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".m4v",
    ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".mpga", ".oga", ".ogg", ".opus", ".ra", ".sph",
    ".spx", ".ts", ".wav", ".webm", ".wma", ".wmv",
})
# fmt: on
MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})


class AudioSource(NamedTuple):
    """One recording that was asked for. Nothing has been opened yet."""

    source: str
    """Absolute path, or http(s) URL."""
    name_parts: tuple[str, ...]
    """Parts of the output name that it should have, without suffix."""
    model: str | None = None
    stem: str | None = None
    """Output name that a manifest asks for; wins over `name`."""
    reference: str | None = None
    seconds: float | None = None


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def expand_sources(sources: Sequence[str], skip: Path) -> list[AudioSource]:
    """Everything that `sources` name, each once, in order; folders are walked in order of their paths.

    `skip` is the output folder: what lies there is no input. Manifests are left to `manifest.read`. Raises InputError
    for a source that names nothing.
    """
    found: dict[str, AudioSource] = {}
    for source in sources:
        for one in _expand_source(source, skip.absolute()):
            found.setdefault(one.source, one)
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
    """A file, named by where it lies below `base`; by its last part where it lies elsewhere."""
    absolute = Path(os.path.abspath(path))
    try:
        relative = absolute.relative_to(os.path.abspath(base))
    except ValueError:
        relative = Path(absolute.name)
    return AudioSource(str(absolute), (*relative.parts[:-1], relative.stem))


def source_from_url(url: str) -> AudioSource:
    """A URL, named by the last part of its path."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise InputError(f"{url}: a URL without a host", remedy="as https://host/path/call.mp3")
    last = PurePosixPath(unquote(parts.path)).name
    return AudioSource(url, (PurePosixPath(last).stem if last else parts.hostname,))


def _expand_folder(folder: Path, base: Path, skip: Path, source: str) -> Iterator[AudioSource]:
    others = 0
    empty = True
    for path in _walk_files(folder, skip):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            empty = False
            yield source_from_path(path, base)
        else:
            others += 1
    if empty:
        other = f" ({others} other file{'s' if others != 1 else ''})" if others else ""
        raise InputError(f"{source}: no audio in this folder{other}", remedy="name files or a glob for other suffixes")


def _walk_files(folder: Path, skip: Path) -> Iterator[Path]:
    """Files below `folder`, in order of their paths, without hidden ones and without the output folder."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}", remedy="make it readable, or name its files") from error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(root, name).absolute() != skip
        )
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _expand_glob(pattern: str, skip: Path) -> Iterator[AudioSource]:
    """Files of audio suffixes, or of the suffix that the pattern spells out; folders are walked."""
    base = _glob_base(pattern)
    apart = skip not in (base.absolute(), *base.absolute().parents)
    spelled = PurePosixPath(pattern).suffix.lower()
    wanted = AUDIO_SUFFIXES if not spelled or glob.has_magic(spelled) else AUDIO_SUFFIXES | {spelled}
    everything = pattern.rstrip("/").endswith("**")
    none = True
    for path in map(Path, sorted(glob.glob(os.path.expanduser(pattern), recursive=True))):
        for file in _walk_files(path, skip) if path.is_dir() and not everything else [path]:
            if file.suffix.lower() in wanted and file.is_file() and not (apart and skip in file.absolute().parents):
                none = False
                yield source_from_path(file, base)
    if none:
        raise InputError(f"{pattern}: no audio matches", remedy="check the pattern, and that it is in quotes")


def _glob_base(pattern: str) -> Path:
    """The folders before the first wildcard."""
    fixed = re.split(r"[*?\[]", os.path.expanduser(pattern), maxsplit=1)[0]
    return Path(fixed if fixed.endswith("/") else os.path.dirname(fixed) or ".")
