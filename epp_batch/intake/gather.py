"""SOURCE… to recordings: found, named, opened and hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from epp_batch.errors import FailureKind, InputError, TaskError, TaskStage
from epp_batch.intake import manifest, sources, stems
from epp_batch.intake.digest_cache import DigestCache
from epp_batch.intake.probe import probe_duration
from epp_batch.intake.sources import AudioSource
from epp_batch.output_folder import OutputFolder, TaskFailure, load_struct, save_struct
from epp_batch.spec import Recording, Run

READER_THREADS = 8


class IntakeResult(NamedTuple):
    """What was asked for, and what of it cannot be worked on."""

    recordings: list[Recording]
    """One for each source, with one stem each; equal contents are put together by `units`."""
    models_by_stem: dict[str, str]
    """By stem, where a manifest names one."""
    failures_by_stem: dict[str, TaskFailure]
    """By stem."""

    @property
    def failures(self) -> list[TaskFailure]:
        return list(self.failures_by_stem.values())

    def save_failures(self, folder: OutputFolder, at: float) -> None:
        """`<stem>.failed.json` for each; `at` in wall seconds since 1970."""
        for stem, failure in self.failures_by_stem.items():
            dated = TaskFailure(
                **{**{name: getattr(failure, name) for name in TaskFailure.__struct_fields__}, "at": at}
            )
            save_struct(folder.path(stem, "failed.json"), dated)


def gather_recordings(
    asked: Sequence[str],
    folder: OutputFolder,
    *,
    relative_to: str | None = None,
    references: str | None = None,
    probe: bool = True,
    remember: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> IntakeResult:
    """Finds, names and reads everything in `asked`; `progress` hears how many of how many are read.

    A recording that cannot be read is a failure beside the others. InputError for a source that names nothing at all
    and for a manifest that is wrong. `remember=False` leaves no cache in the output folder.
    """
    found = _assign_names(_expand_all(asked, folder.root), relative_to)
    if not found:
        raise InputError("no sources", remedy="name files, folders, globs, URLs or manifests")
    names = stems.assign_stems(found, _load_previous_stems(folder))
    digests = DigestCache(folder.root / ".epp-batch" / "digests.json")
    recordings: list[Recording] = []
    failed: dict[str, TaskFailure] = {}
    read = _create_reader(digests, probe, Path(references).absolute() if references else None)
    with ThreadPoolExecutor(READER_THREADS, "intake") as pool:
        for count, (stem, result) in enumerate(zip(names, pool.map(read, found, names), strict=True), 1):
            if isinstance(result, Recording):
                recordings.append(result)
            else:
                failed[stem] = build_failure(result)
            if progress is not None:
                progress(count, len(found))
    if remember:
        digests.save()
    models = {stem: one.model for stem, one in zip(names, found, strict=True) if one.model is not None}
    return IntakeResult(recordings, models, failed)


def build_failure(error: TaskError) -> TaskFailure:
    """The error as it stands in a sidecar; without a key, since no model was chosen yet."""
    kind = error.kind
    return TaskFailure(
        key="",
        source=error.source,
        stage=error.stage.value,
        kind=kind.name.lower(),
        message=error.message,
        remedy=kind.remedy,
        permanent=kind.permanent,
        exit_code=kind.exit_code,
    )


def _expand_all(asked: Sequence[str], output: Path) -> list[AudioSource]:
    """Everything once; a source asked for twice with two models stays twice."""
    all_found: dict[tuple[str, str | None, str | None], AudioSource] = {}
    for source in asked:
        rows = (
            manifest.read_manifest(Path(source))
            if manifest.is_manifest(source)
            else sources.expand_sources([source], output)
        )
        for one in rows:
            all_found.setdefault((one.source, one.model, one.stem), one)
    return _drop_undescribed_duplicates(all_found.values())


def _drop_undescribed_duplicates(found: Iterable[AudioSource]) -> list[AudioSource]:
    """A source that a manifest describes is not there a second time because its folder was named too."""
    every = list(found)
    described = {one.source for one in every if one.model is not None or one.stem is not None}
    return [one for one in every if one.model is not None or one.stem is not None or one.source not in described]


def _assign_names(found: list[AudioSource], relative_to: str | None) -> list[AudioSource]:
    """Names below `relative_to`, and the model's name where one source has several models."""
    if relative_to is not None:
        base = os.path.abspath(relative_to)
        if outside := [one.source for one in found if _is_outside(one, base)]:
            raise InputError(f"{outside[0]}: not below --relative-to {relative_to}", remedy="name a folder above it")
        found = [
            one
            if sources.is_url(one.source)
            else one._replace(name_parts=sources.source_from_path(Path(one.source), Path(base)).name_parts)
            for one in found
        ]
    counts: dict[str, int] = {}
    for one in found:
        counts[one.source] = counts.get(one.source, 0) + 1
    return [
        one._replace(name_parts=(*one.name_parts[:-1], f"{one.name_parts[-1]}-{one.model}"))
        if counts[one.source] > 1 and one.model
        else one
        for one in found
    ]


def _is_outside(one: AudioSource, base: str) -> bool:
    return not sources.is_url(one.source) and os.path.commonpath((one.source, base)) != base


def _load_previous_stems(folder: OutputFolder) -> dict[str, str]:
    """Stems of the last submission by source, where a source had one only."""
    run = load_struct(folder.run_file, Run)
    before: dict[str, str] = {}
    for task in run.list_tasks() if run is not None else ():
        if len(task.recording.stems) == 1:
            before[task.recording.source] = "" if task.recording.source in before else task.stem
    return {source: stem for source, stem in before.items() if stem}


def _create_reader(
    digests: DigestCache, probe: bool, references: Path | None
) -> Callable[[AudioSource, str], Recording | TaskError]:
    silent: set[str] = set()

    def read(one: AudioSource, stem: str) -> Recording | TaskError:
        try:
            return _read_recording(one, stem, digests, probe, references, silent)
        except TaskError as error:
            return error

    return read


def _read_recording(
    one: AudioSource, stem: str, digests: DigestCache, probe: bool, references: Path | None, silent: set[str]
) -> Recording:
    reference = one.reference
    if reference is None and references is not None and (references / f"{stem}.txt").is_file():
        reference = str(references / f"{stem}.txt")
    if sources.is_url(one.source):
        digest = hashlib.sha256(one.source.encode()).hexdigest()
        seconds = probe_duration(one.source, silent) if probe and one.seconds is None else one.seconds
        return Recording(source=one.source, stems=(stem,), sha256=digest, seconds=seconds, reference=reference)
    try:
        one.source.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(one.source).decode(errors="replace")
        raise TaskError(FailureKind.MISSING, TaskStage.PROBE, shown, "its name is not UTF-8; rename it") from None
    known = digests.digest_file(one.source, lengths=probe)
    return Recording(
        source=one.source,
        stems=(stem,),
        sha256=known.sha256,
        seconds=one.seconds if known.seconds is None else known.seconds,
        size=known.size,
        reference=reference,
    )
