"""SOURCE… to recordings: found, named, opened and hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from epp_batch.errors import InputError, Kind, Stage, WorkError
from epp_batch.intake import manifest, media, sources, stems
from epp_batch.intake.digests import Digests
from epp_batch.intake.sources import Found
from epp_batch.output_folder import Failure, Folder, load, save
from epp_batch.spec import Recording, Run

READERS = 8


class Gathered(NamedTuple):
    """What was asked for, and what of it cannot be worked on."""

    recordings: list[Recording]
    """One for each source, with one stem each; equal contents are put together by `units`."""
    models: dict[str, str]
    """By stem, where a manifest names one."""
    failed: dict[str, Failure]
    """By stem."""

    @property
    def failures(self) -> list[Failure]:
        return list(self.failed.values())

    def save_failures(self, folder: Folder, at: float) -> None:
        """`<stem>.failed.json` for each; `at` in wall seconds since 1970."""
        for stem, failure in self.failed.items():
            dated = Failure(**{**{name: getattr(failure, name) for name in Failure.__struct_fields__}, "at": at})
            save(folder.path(stem, "failed.json"), dated)


def gather(
    asked: Sequence[str],
    folder: Folder,
    *,
    relative_to: str | None = None,
    references: str | None = None,
    probe: bool = True,
    remember: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Gathered:
    """Finds, names and reads everything in `asked`; `progress` hears how many of how many are read.

    A recording that cannot be read is a failure beside the others. InputError for a source that names nothing at all
    and for a manifest that is wrong. `remember=False` leaves no cache in the output folder.
    """
    found = _named(_found(asked, folder.root), relative_to)
    if not found:
        raise InputError("no sources", remedy="name files, folders, globs, URLs or manifests")
    names = stems.assign(found, _stems_before(folder))
    digests = Digests(folder.root / ".epp-batch" / "digests.json")
    recordings: list[Recording] = []
    failed: dict[str, Failure] = {}
    read = _reader(digests, probe, Path(references).absolute() if references else None)
    with ThreadPoolExecutor(READERS, "intake") as pool:
        for count, (stem, result) in enumerate(zip(names, pool.map(read, found, names), strict=True), 1):
            if isinstance(result, Recording):
                recordings.append(result)
            else:
                failed[stem] = failure_of(result)
            if progress is not None:
                progress(count, len(found))
    if remember:
        digests.save()
    models = {stem: one.model for stem, one in zip(names, found, strict=True) if one.model is not None}
    return Gathered(recordings, models, failed)


def failure_of(error: WorkError) -> Failure:
    """The error as it stands in a sidecar; without a key, since no model was chosen yet."""
    kind = error.kind
    return Failure(
        key="",
        source=error.source,
        stage=error.stage.value,
        kind=kind.name.lower(),
        message=error.message,
        remedy=kind.remedy,
        permanent=kind.permanent,
        exit_code=kind.code,
    )


def _found(asked: Sequence[str], output: Path) -> list[Found]:
    """Everything once; a source asked for twice with two models stays twice."""
    all_found: dict[tuple[str, str | None, str | None], Found] = {}
    for source in asked:
        rows = manifest.read(Path(source)) if manifest.is_manifest(source) else sources.expand([source], output)
        for one in rows:
            all_found.setdefault((one.source, one.model, one.stem), one)
    return _without_plain_twins(all_found.values())


def _without_plain_twins(found: Iterable[Found]) -> list[Found]:
    """A source that a manifest describes is not there a second time because its folder was named too."""
    every = list(found)
    described = {one.source for one in every if one.model is not None or one.stem is not None}
    return [one for one in every if one.model is not None or one.stem is not None or one.source not in described]


def _named(found: list[Found], relative_to: str | None) -> list[Found]:
    """Names below `relative_to`, and the model's name where one source has several models."""
    if relative_to is not None:
        base = os.path.abspath(relative_to)
        if outside := [one.source for one in found if _outside(one, base)]:
            raise InputError(f"{outside[0]}: not below --relative-to {relative_to}", remedy="name a folder above it")
        found = [
            one if sources.is_url(one.source) else one._replace(name=sources.of_path(Path(one.source), Path(base)).name)
            for one in found
        ]
    counts: dict[str, int] = {}
    for one in found:
        counts[one.source] = counts.get(one.source, 0) + 1
    return [
        one._replace(name=(*one.name[:-1], f"{one.name[-1]}-{one.model}"))
        if counts[one.source] > 1 and one.model
        else one
        for one in found
    ]


def _outside(one: Found, base: str) -> bool:
    return not sources.is_url(one.source) and os.path.commonpath((one.source, base)) != base


def _stems_before(folder: Folder) -> dict[str, str]:
    """Stems of the last submission by source, where a source had one only."""
    run = load(folder.run_file, Run)
    before: dict[str, str] = {}
    for task in run.tasks() if run is not None else ():
        if len(task.recording.stems) == 1:
            before[task.recording.source] = "" if task.recording.source in before else task.stem
    return {source: stem for source, stem in before.items() if stem}


def _reader(digests: Digests, probe: bool, references: Path | None) -> Callable[[Found, str], Recording | WorkError]:
    silent: set[str] = set()

    def read(one: Found, stem: str) -> Recording | WorkError:
        try:
            return _read(one, stem, digests, probe, references, silent)
        except WorkError as error:
            return error

    return read


def _read(one: Found, stem: str, digests: Digests, probe: bool, references: Path | None, silent: set[str]) -> Recording:
    reference = one.reference
    if reference is None and references is not None and (references / f"{stem}.txt").is_file():
        reference = str(references / f"{stem}.txt")
    if sources.is_url(one.source):
        digest = hashlib.sha256(one.source.encode()).hexdigest()
        seconds = media.probe(one.source, silent) if probe and one.seconds is None else one.seconds
        return Recording(source=one.source, stems=(stem,), sha256=digest, seconds=seconds, reference=reference)
    try:
        one.source.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(one.source).decode(errors="replace")
        raise WorkError(Kind.MISSING, Stage.PROBE, shown, "its name is not UTF-8; rename it") from None
    known = digests.read(one.source, lengths=probe)
    return Recording(
        source=one.source,
        stems=(stem,),
        sha256=known.sha256,
        seconds=one.seconds if known.seconds is None else known.seconds,
        size=known.size,
        reference=reference,
    )
