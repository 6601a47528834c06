"""Which tasks of a folder are finished."""

from __future__ import annotations

import pytest

from epp_batch.output_folder import OutputFolder, TaskFailure, save_struct
from epp_batch.spec import Recording, Run, Task, Unit
from epp_batch.summaries.finished_tasks import has_unfinished_tasks, list_finished_tasks
from tests.unit.epp_batch.summaries.conftest import OPTIONS, write_transcript


def save_run(folder: OutputFolder, *tasks: Task) -> None:
    folder.save_run(Run(name="r", output=str(folder.root), options=OPTIONS, units=(Unit(name="r-1", tasks=tasks),)))


def stems(folder: OutputFolder) -> list[str]:
    return [task.stem for task, _ in list_finished_tasks(folder)]


def test_tasks_of_a_run_are_in_its_order_and_others_left_out(folder: OutputFolder):
    (b, _), (a, _) = write_transcript(folder, "b"), write_transcript(folder, "a")
    write_transcript(folder, "of-another-run")
    save_run(folder, b, a)
    assert stems(folder) == ["b", "a"]
    assert not has_unfinished_tasks(folder)


def test_without_a_run_all_sidecars_count(folder: OutputFolder):
    for stem in ("b", "deep/a"):
        write_transcript(folder, stem)
    folder.path("broken", "done.json").write_text("{")
    assert stems(folder) == ["b", "deep/a"]
    assert not has_unfinished_tasks(folder)


@pytest.mark.parametrize(("permanent", "key_matches"), [(True, True), (True, False), (False, True)])
def test_a_task_is_unfinished_unless_it_has_failed_for_good(folder: OutputFolder, permanent: bool, key_matches: bool):
    done, _ = write_transcript(folder, "done")
    failing = Task(recording=Recording(source="f.mp3", stems=("f",), sha256="f"), model="tiny.en")
    save_run(folder, done, failing)
    assert has_unfinished_tasks(folder)
    failure = TaskFailure(
        key=failing.key(OPTIONS) if key_matches else "of other options",
        source="f.mp3", stage="decode", kind="corrupt", message="m", remedy="r", permanent=permanent,
    )  # fmt: skip
    save_struct(folder.path("f", "failed.json"), failure)
    assert has_unfinished_tasks(folder) is not (permanent and key_matches)
    assert stems(folder) == ["done"]
