"""Gathers recordings: expands sources, assigns output stems, then hashes and probes every file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from epp_batch.errors import FailureKind, InputError, TaskError, TaskStage
from epp_batch.intake import manifest, sources, stems
from epp_batch.intake.digest_cache import DigestCache
from epp_batch.intake.probe import probe_duration
from epp_batch.intake.sources import AudioSource
from epp_batch.output_folder import OutputFolder, TaskFailure, load_struct, save_struct
from epp_batch.spec import Recording, Run, is_url

READER_THREADS = 8


class IntakeResult(NamedTuple):
    """The recordings of all sources, and the failures of those that cannot be read."""

    recordings: list[Recording]
    """One for each readable source, with one stem each; `build_units` merges those with equal content."""
    models_by_stem: dict[str, str]
    """The model by output stem, for sources whose manifest names one."""
    failures_by_stem: dict[str, TaskFailure]

    @property
    def failures(self) -> list[TaskFailure]:
        return list(self.failures_by_stem.values())

    def save_failures(self, folder: OutputFolder, at: float) -> None:
        """Writes `<stem>.failed.json` for each failure; `at` is Unix time in seconds."""
        for stem, failure in self.failures_by_stem.items():
            save_struct(folder.path(stem, "failed.json"), msgspec.structs.replace(failure, at=at))


def gather_recordings(
    requested: Sequence[str],
    folder: OutputFolder,
    *,
    relative_to: str | None = None,
    references: str | None = None,
    probe_lengths: bool = True,
    save_cache: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> IntakeResult:
    """Finds, names and reads all sources in `requested`.

    `references` is a folder of reference transcripts named `<stem>.txt`. `on_progress(done, total)` is called after
    each source. `save_cache=False` writes no digest cache into the output folder. A source that cannot be read becomes
    a failure of the result; raises InputError for a source that matches nothing and for an invalid manifest.
    """
    found = _assign_names(_expand_all(requested, folder.root), relative_to)
    if not found:
        raise InputError("no sources", remedy="name files, folders, globs, URLs or manifests")
    assigned = stems.assign_stems(found, _load_previous_stems(folder))
    cache = DigestCache(folder.root / ".epp-batch" / "digests.json")
    reference_folder = Path(references).absolute() if references else None
    read = partial(_read_recording, cache, probe_lengths, reference_folder, set())
    recordings: list[Recording] = []
    failures: dict[str, TaskFailure] = {}
    with ThreadPoolExecutor(READER_THREADS, "intake") as pool:
        for count, (stem, result) in enumerate(zip(assigned, pool.map(read, found, assigned), strict=True), 1):
            if isinstance(result, Recording):
                recordings.append(result)
            else:
                failures[stem] = TaskFailure.from_error(result)
            if on_progress is not None:
                on_progress(count, len(found))
    if save_cache:
        cache.save()
    models = {stem: source.model for stem, source in zip(assigned, found, strict=True) if source.model is not None}
    return IntakeResult(recordings, models, failures)


def _expand_all(requested: Sequence[str], output: Path) -> list[AudioSource]:
    """All sources without duplicates. A source that manifests list with two models or two stems stays twice."""
    found: dict[tuple[str, str | None, str | None], AudioSource] = {}
    for text in requested:
        is_manifest = manifest.is_manifest(text)
        expanded = manifest.read_manifest(Path(text)) if is_manifest else sources.expand_sources([text], output)
        for source in expanded:
            found.setdefault((source.location, source.model, source.stem), source)
    return _drop_undescribed_duplicates(found.values())


def _drop_undescribed_duplicates(found: Iterable[AudioSource]) -> list[AudioSource]:
    """Drops a plain source that a manifest also lists with a model or stem, as when its folder was named too."""
    candidates = list(found)
    described = {each.location for each in candidates if each.model is not None or each.stem is not None}
    return [
        each for each in candidates if each.model is not None or each.stem is not None or each.location not in described
    ]


def _assign_names(found: list[AudioSource], relative_to: str | None) -> list[AudioSource]:
    """Makes names relative to `relative_to`, and appends the model's name if one source has several models."""
    if relative_to is not None:
        base = os.path.abspath(relative_to)
        for each in found:
            if not is_url(each.location) and os.path.commonpath((each.location, base)) != base:
                raise InputError(
                    f"{each.location}: not below --relative-to {relative_to}", remedy="name a folder above it"
                )
        found = [
            each
            if is_url(each.location)
            else each._replace(name_parts=sources.source_from_path(Path(each.location), Path(base)).name_parts)
            for each in found
        ]
    counts = Counter(each.location for each in found)
    return [
        each._replace(name_parts=(*each.name_parts[:-1], f"{each.name_parts[-1]}-{each.model}"))
        if counts[each.location] > 1 and each.model
        else each
        for each in found
    ]


def _load_previous_stems(folder: OutputFolder) -> dict[str, str]:
    """Stems of the previous submission by source; without sources that had several stems."""
    run = load_struct(folder.run_file, Run)
    previous: dict[str, str] = {}
    for task in run.list_tasks() if run is not None else ():
        if len(task.recording.stems) == 1:
            previous[task.recording.source] = "" if task.recording.source in previous else task.stem
    return {source: stem for source, stem in previous.items() if stem}


def _read_recording(
    cache: DigestCache,
    probe_lengths: bool,
    references: Path | None,
    unreachable_hosts: set[str],
    source: AudioSource,
    stem: str,
) -> Recording | TaskError:
    """Hashes and probes one source; returns the error if that fails, so that the other sources are still read."""
    reference = source.reference
    if reference is None and references is not None and (references / f"{stem}.txt").is_file():
        reference = str(references / f"{stem}.txt")
    try:
        if is_url(source.location):
            known = source.seconds is not None or not probe_lengths
            return Recording(
                source=source.location,
                stems=(stem,),
                sha256=hashlib.sha256(source.location.encode()).hexdigest(),
                seconds=source.seconds if known else probe_duration(source.location, unreachable_hosts),
                reference=reference,
            )
        _require_utf8_name(source.location)
        digest = cache.digest_file(source.location, with_duration=probe_lengths)
    except TaskError as error:
        return error
    return Recording(
        source=source.location,
        stems=(stem,),
        sha256=digest.sha256,
        seconds=source.seconds if digest.seconds is None else digest.seconds,
        size=digest.size,
        reference=reference,
    )


def _require_utf8_name(path: str) -> None:
    """Raises TaskError for a file name with undecodable bytes: JSON and Kubernetes cannot carry it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        printable = os.fsencode(path).decode(errors="replace")
        raise TaskError(FailureKind.MISSING, TaskStage.PROBE, printable, "its name is not UTF-8; rename it") from None
