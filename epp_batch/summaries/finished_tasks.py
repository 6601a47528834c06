"""Finished and unfinished tasks of an output folder, for `epp-batch summarize`."""

from __future__ import annotations

from epp_batch.errors import FolderError
from epp_batch.output_folder import OutputFolder, TranscriptionResult, load_struct
from epp_batch.spec import Recording, Run, Task

_DONE = ".done.json"


def list_finished_tasks(folder: OutputFolder) -> list[tuple[Task, TranscriptionResult]]:
    """Finished tasks of the folder's run in its order; without a run, those of all sidecars in the folder."""
    run = _load_run(folder)
    if run is None:
        return _list_by_sidecars(folder)
    pairs = ((task, folder.find_finished_result(task, run.options)) for task in run.list_tasks())
    return [(task, result) for task, result in pairs if result is not None]


def has_unfinished_tasks(folder: OutputFolder) -> bool:
    """Whether any task of the folder's run is neither finished nor permanently failed."""
    run = _load_run(folder)
    if run is None:
        return False
    for task in run.list_tasks():
        failure = folder.load_failure(task.stem)
        has_failed = failure is not None and failure.permanent and failure.key == task.key(run.options)
        if not has_failed and folder.find_finished_result(task, run.options) is None:
            return True
    return False


def _load_run(folder: OutputFolder) -> Run | None:
    try:
        return folder.load_run()
    except FolderError:
        return None


def _list_by_sidecars(folder: OutputFolder) -> list[tuple[Task, TranscriptionResult]]:
    """Finds results by their sidecars.

    Stems of one recording cannot be recognized as such: each gets its own summary.
    """
    pairs = []
    for path in sorted(folder.root.rglob(f"*{_DONE}")):
        result = load_struct(path, TranscriptionResult)
        if result is not None:
            stem = path.relative_to(folder.root).as_posix().removesuffix(_DONE)
            recording = Recording(source=result.source, stems=(stem,), sha256=result.sha256)
            pairs.append((Task(recording=recording, model=result.model), result))
    return pairs
