"""The report of an output folder: its run, timeline, sidecars, failures and references."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from epp_batch import timeline
from epp_batch.errors import InputError
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult, load_struct
from epp_batch.report import wer
from epp_batch.report.assemble import build_report
from epp_batch.report.cost import DevicePrices
from epp_batch.report.model import Report, WordErrors
from epp_batch.spec import Run


def build_folder_report(
    root: str | Path,
    prices: DevicePrices | None = None,
    *,
    shares: Mapping[str, float] | None = None,
    references: bool = True,
) -> tuple[Report, list[str]]:
    """The report, and what could not be read for it; FolderError where there is no run.

    `references=False` leaves word error rates out, which need time where recordings are long.
    """
    folder = OutputFolder(root)
    run = folder.load_run()
    results = load_results(run, folder)
    words: dict[str, WordErrors] = {}
    normaliser = ""
    missing: list[str] = []
    if references:
        words, normaliser, missing = wer.measure_word_errors(run.list_tasks(), folder, results)
    events = timeline.read_events(folder.events_file)
    report = build_report(
        run, events, results, load_failures(run, folder), prices, shares=shares, words=words, normaliser=normaliser
    )
    return report, missing


def build_planned_report(
    root: str | Path,
    events: str | Path,
    prices: DevicePrices | None = None,
    *,
    shares: Mapping[str, float] | None = None,
) -> Report:
    """The folder's run as another timeline of its units tells it, e.g. that of `plan --run OUTPUT --events FILE`.

    Raises InputError where the file has no event of the run.
    """
    run = OutputFolder(root).load_run()
    units = {unit.name for unit in run.units}
    told = [event for event in timeline.read_events(Path(events)) if event.unit in units]
    if not told:
        raise InputError(
            f"{events}: no events of {run.name}", remedy=f"make them with epp-batch plan --run {root} --events {events}"
        )
    return build_report(
        msgspec.structs.replace(run, name=f"{run.name} as planned"), told, {}, [], prices, shares=shares
    )


def load_results(run: Run, folder: OutputFolder) -> dict[str, TranscriptionResult]:
    """Results of these very tasks, by stem."""
    results = {task.stem: folder.find_finished_result(task, run.options) for task in run.list_tasks()}
    return {stem: result for stem, result in results.items() if result is not None}


def load_failures(run: Run, folder: OutputFolder) -> list[TaskFailure]:
    """Failures of these very tasks, summaries included, and of sources of which no task could be made."""
    failures = _load_unread_failures(run, folder)
    for task in run.list_tasks():
        failure = folder.load_failure(task.stem)
        if failure is not None and failure.key == task.key(run.options):
            failures.append(failure)
    return failures


def _load_unread_failures(run: Run, folder: OutputFolder) -> list[TaskFailure]:
    """Written by the invocation that wrote the run: an older one may speak of sources that nobody asks for any more."""
    known = {task.stem for task in run.list_tasks()}
    found = []
    for path in sorted(folder.root.rglob("*.failed.json")):
        if str(path.relative_to(folder.root)).removesuffix(".failed.json") not in known:
            failure = load_struct(path, TaskFailure)
            if failure is not None and not failure.key and failure.at >= run.created:
                found.append(failure)
    return found
