"""Output names: short, stable from one submission to the next, and never one name for two recordings."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from epp_batch.errors import InputError
from epp_batch.intake.sources import AudioSource, is_url

RESERVED_SUFFIXES = frozenset({".done", ".failed", ".partial", ".summary"})
"""`call.done` would write its transcript where the sidecar of `call` lies."""
MAX_PART_BYTES = 180
"""Bytes of one part: file systems allow 255, and suffixes and temporary names come on top."""


def assign_stems(found: Sequence[AudioSource], before: Mapping[str, str]) -> list[str]:
    """A stem for each; `before` has the stems of an earlier submission by source, which stay.

    What a manifest asks for comes first, then what was before. Of the others, those who want the same name get the
    folders that tell them apart, or their suffix, or in the end a hash of their source.
    """
    stems: list[str | None] = [None] * len(found)
    taken: dict[str, str] = {}
    for index, one in enumerate(found):
        if one.stem is not None:
            stems[index] = _reserve_requested_stem(one, taken)
    wishes: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(found):
        if stems[index] is None:
            old = before.get(one.source)
            if old is not None and old.casefold() not in taken:
                stems[index] = old
                taken[old.casefold()] = one.source
            else:
                wishes["/".join(map(sanitize_path_part, one.name_parts)).casefold()].append(index)
    for wish, indices in sorted(wishes.items()):
        names = _disambiguate_names([found[index] for index in indices], alone=wish not in taken)
        for index, name in zip(indices, names, strict=True):
            stem = name if name.casefold() not in taken else f"{name}-{_hash_source(found[index])}"
            stems[index] = stem
            taken[stem.casefold()] = found[index].source
    return [stem for stem in stems if stem is not None]


def sanitize_path_part(part: str) -> str:
    """One part of a path that can stand in a file name everywhere."""
    part = re.sub(r"[\x00-\x1f\x7f/\\\ud800-\udfff]", "_", part).strip() or "_"
    if part in {".", ".."}:
        part = "_"
    if PurePosixPath(part).suffix in RESERVED_SUFFIXES:
        part += "_"
    if len(part.encode()) > MAX_PART_BYTES:
        tail = hashlib.sha256(part.encode()).hexdigest()[:8]
        part = part.encode()[: MAX_PART_BYTES - 9].decode(errors="ignore") + "-" + tail
    return part


def _reserve_requested_stem(one: AudioSource, taken: dict[str, str]) -> str:
    stem = one.stem or ""
    parts = stem.split("/")
    if any(sanitize_path_part(part) != part for part in parts) or parts[0] == ".epp-batch":
        raise InputError(f"{one.source}: stem {stem!r} cannot be an output name", remedy="a relative path, no suffix")
    if stem.casefold() in taken:
        raise InputError(f"stem {stem!r} of {taken[stem.casefold()]} and of {one.source}", remedy="one name each")
    taken[stem.casefold()] = one.source
    return stem


def _disambiguate_names(group: list[AudioSource], *, alone: bool) -> list[str]:
    """Names for recordings that all want the same one."""
    plain = ["/".join(map(sanitize_path_part, one.name_parts)) for one in group]
    if len(group) == 1 and alone:
        return plain
    wheres = [_parent_folders(one) for one in group]
    if len(group) > 1 and len(set(wheres)) == 1:
        names = [
            "/".join(
                (
                    *map(sanitize_path_part, one.name_parts[:-1]),
                    sanitize_path_part(one.name_parts[-1] + _source_suffix(one)),
                )
            )
            for one in group
        ]
        return names if _are_distinct(names) else _append_hashes(plain, group)
    for depth in range(1, max(map(len, wheres)) + 1):
        names = ["/".join((*where[-depth:], name)) for where, name in zip(wheres, plain, strict=True)]
        if _are_distinct(names):
            return names
    return _append_hashes(plain, group)


def _parent_folders(one: AudioSource) -> tuple[str, ...]:
    """Folders above the name that it has already."""
    if is_url(one.source):
        url = urlsplit(one.source)
        whole = (url.netloc, *PurePosixPath(unquote(url.path)).parts[1:-1])
    else:
        whole = PurePosixPath(one.source).parts[1:-1]
    return tuple(map(sanitize_path_part, whole[: len(whole) - len(one.name_parts) + 1]))


def _source_suffix(one: AudioSource) -> str:
    return PurePosixPath(urlsplit(one.source).path if is_url(one.source) else one.source).suffix


def _are_distinct(names: list[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)


def _append_hashes(names: list[str], group: list[AudioSource]) -> list[str]:
    return [f"{name}-{_hash_source(one)}" for name, one in zip(names, group, strict=True)]


def _hash_source(one: AudioSource) -> str:
    return hashlib.sha256(f"{one.source}\0{one.model or ''}".encode(errors="surrogateescape")).hexdigest()[:8]
