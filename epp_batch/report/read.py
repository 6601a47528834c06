"""Reports of an output folder: reads its run, journal, results, failures and references."""

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
    """The report of a folder's run, and messages about references that could not be read.

    `references=False` omits word error rates, which take long for long recordings. Raises FolderError where there is no
    run.
    """
    folder = OutputFolder(root)
    run = folder.load_run()
    results = load_results(run, folder)
    word_errors: dict[str, WordErrors] = {}
    normaliser = ""
    messages: list[str] = []
    if references:
        word_errors, normaliser, messages = wer.measure_word_errors(run.list_tasks(), folder, results)
    report = build_report(
        run,
        timeline.read_events(folder.events_file),
        results,
        load_failures(run, folder),
        prices,
        shares=shares,
        word_errors=word_errors,
        normaliser=normaliser,
    )
    return report, messages


def build_planned_report(
    root: str | Path,
    events_file: str | Path,
    prices: DevicePrices | None = None,
    *,
    shares: Mapping[str, float] | None = None,
) -> Report:
    """A report of the folder's run by another timeline, as `plan --run OUTPUT --events FILE` writes it.

    Raises InputError where the file has no event of the run.
    """
    run = OutputFolder(root).load_run()
    units = {unit.name for unit in run.units}
    events = [event for event in timeline.read_events(Path(events_file)) if event.unit in units]
    if not events:
        raise InputError(
            f"{events_file}: no events of run {run.name}",
            remedy=f"write them with epp-batch plan --run {root} --events {events_file}",
        )
    planned = msgspec.structs.replace(run, name=f"{run.name} as planned")
    return build_report(planned, events, {}, [], prices, shares=shares)


def load_results(run: Run, folder: OutputFolder) -> dict[str, TranscriptionResult]:
    """Results of the run's tasks with its options, by stem."""
    results = {task.stem: folder.find_finished_result(task, run.options) for task in run.list_tasks()}
    return {stem: result for stem, result in results.items() if result is not None}


def load_failures(run: Run, folder: OutputFolder) -> list[TaskFailure]:
    """Failures of the run's tasks and summaries, and of sources that never became a task."""
    failures = _load_unread_failures(run, folder)
    for task in run.list_tasks():
        failure = folder.load_failure(task.stem)
        if failure is not None and failure.key == task.key(run.options):
            failures.append(failure)
    return failures


def _load_unread_failures(run: Run, folder: OutputFolder) -> list[TaskFailure]:
    """Failures of sources since the run was created; older ones may be of sources that are not part of it any more."""
    stems = {task.stem for task in run.list_tasks()}
    failures = []
    for path in sorted(folder.root.rglob("*.failed.json")):
        if str(path.relative_to(folder.root)).removesuffix(".failed.json") not in stems:
            failure = load_struct(path, TaskFailure)
            if failure is not None and not failure.key and failure.at >= run.created:
                failures.append(failure)
    return failures
