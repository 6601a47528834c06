"""Assigns output stems: short, stable between submissions, and unique (ignoring case) among recordings."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from epp_batch.errors import InputError
from epp_batch.intake.sources import AudioSource
from epp_batch.spec import is_url

RESERVED_SUFFIXES = frozenset({".done", ".failed", ".partial", ".summary"})
"""A stem with one of these suffixes would collide with a sidecar: `call.done` with `call.done.json`."""
MAX_PART_BYTES = 180
"""Limit of one path component in bytes: file systems allow 255, and suffixes and temporary names add to it."""


def assign_stems(sources: Sequence[AudioSource], previous: Mapping[str, str]) -> list[str]:
    """A stem for each source; `previous` has the stems of an earlier submission by source.

    Precedence: the stem that a manifest requests, then the previous stem, then the source's own name. Sources with the
    same name are distinguished by their parent folders, else by their suffix, else by a hash of the source.
    """
    stems: list[str | None] = [None] * len(sources)
    taken: dict[str, str] = {}
    for index, source in enumerate(sources):
        if source.stem is not None:
            stems[index] = _reserve_requested_stem(source, taken)
    indices_by_name: dict[str, list[int]] = defaultdict(list)
    for index, source in enumerate(sources):
        if stems[index] is None:
            previous_stem = previous.get(source.location)
            if previous_stem is not None and previous_stem.casefold() not in taken:
                stems[index] = previous_stem
                taken[previous_stem.casefold()] = source.location
            else:
                indices_by_name["/".join(map(sanitize_path_part, source.name_parts)).casefold()].append(index)
    for wanted_name, indices in sorted(indices_by_name.items()):
        names = _disambiguate_names([sources[index] for index in indices], name_is_free=wanted_name not in taken)
        for index, name in zip(indices, names, strict=True):
            stem = name if name.casefold() not in taken else f"{name}-{_hash_source(sources[index])}"
            stems[index] = stem
            taken[stem.casefold()] = sources[index].location
    return [stem for stem in stems if stem is not None]


def sanitize_path_part(part: str) -> str:
    """Makes a path component safe on any file system: no control characters, separators or reserved suffixes."""
    part = re.sub(r"[\x00-\x1f\x7f/\\\ud800-\udfff]", "_", part).strip() or "_"
    if part in {".", ".."}:
        part = "_"
    if PurePosixPath(part).suffix in RESERVED_SUFFIXES:
        part += "_"
    if len(part.encode()) > MAX_PART_BYTES:
        tail = hashlib.sha256(part.encode()).hexdigest()[:8]
        part = part.encode()[: MAX_PART_BYTES - 9].decode(errors="ignore") + "-" + tail
    return part


def _reserve_requested_stem(source: AudioSource, taken: dict[str, str]) -> str:
    stem = source.stem or ""
    parts = stem.split("/")
    if any(sanitize_path_part(part) != part for part in parts) or parts[0] == ".epp-batch":
        raise InputError(
            f"{source.location}: stem {stem!r} cannot be an output name", remedy="give a relative path without suffix"
        )
    if stem.casefold() in taken:
        raise InputError(
            f"stem {stem!r} of {taken[stem.casefold()]} and of {source.location}",
            remedy="give each recording its own stem",
        )
    taken[stem.casefold()] = source.location
    return stem


def _disambiguate_names(group: list[AudioSource], *, name_is_free: bool) -> list[str]:
    """Distinct names for sources that all have the same name."""
    plain = ["/".join(map(sanitize_path_part, source.name_parts)) for source in group]
    if len(group) == 1 and name_is_free:
        return plain
    parents = [_parent_folders(source) for source in group]
    if len(group) > 1 and len(set(parents)) == 1:
        names = [
            "/".join(
                (
                    *map(sanitize_path_part, source.name_parts[:-1]),
                    sanitize_path_part(source.name_parts[-1] + _source_suffix(source)),
                )
            )
            for source in group
        ]
        return names if _are_distinct(names) else _append_hashes(plain, group)
    for depth in range(1, max(map(len, parents)) + 1):
        names = ["/".join((*folders[-depth:], name)) for folders, name in zip(parents, plain, strict=True)]
        if _are_distinct(names):
            return names
    return _append_hashes(plain, group)


def _parent_folders(source: AudioSource) -> tuple[str, ...]:
    """Parent folders (for a URL: host and folders) that are not yet part of the source's name."""
    if is_url(source.location):
        url = urlsplit(source.location)
        folders = (url.netloc, *PurePosixPath(unquote(url.path)).parts[1:-1])
    else:
        folders = PurePosixPath(source.location).parts[1:-1]
    return tuple(map(sanitize_path_part, folders[: len(folders) - len(source.name_parts) + 1]))


def _source_suffix(source: AudioSource) -> str:
    return PurePosixPath(urlsplit(source.location).path if is_url(source.location) else source.location).suffix


def _are_distinct(names: list[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)


def _append_hashes(names: list[str], group: list[AudioSource]) -> list[str]:
    return [f"{name}-{_hash_source(source)}" for name, source in zip(names, group, strict=True)]


def _hash_source(source: AudioSource) -> str:
    return hashlib.sha256(f"{source.location}\0{source.model or ''}".encode(errors="surrogateescape")).hexdigest()[:8]
