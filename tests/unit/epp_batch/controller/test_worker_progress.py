"""Progress of a worker, from its partial file or its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from epp_batch.controller.worker_progress import WorkerProgressReader
from epp_batch.errors import ClusterError
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import Recording, Task
from tests.unit.epp_batch.controller.objects import make_pod

TASK = Task(recording=Recording(source="a.wav", stems=("a",)), model="tiny")
RUNNING = make_pod("Running", started_at=4)


class LogsOnlyClient:
    """The part of ApiClient that is used: a pod's log."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    async def read_text(self, path: str, **_: str) -> str:
        assert path == "/api/v1/namespaces/ns/pods/p1/log"
        if self._text is None:
            raise ClusterError("no log")
        return self._text


async def read(folder: Path, text: str | None = None) -> float | None:
    return await WorkerProgressReader(LogsOnlyClient(text), "ns", OutputFolder(folder)).read_audio_position(
        [TASK], RUNNING
    )  # type: ignore[arg-type]


async def test_progress_is_that_of_the_last_whole_batch_in_the_partial_file(tmp_path: Path):
    path = tmp_path / "a.partial.jsonl"
    path.write_text('{"type":"plan","key":"k"}\n{"type":"attempt","started":1.0}\n')
    assert await read(tmp_path) is None
    batches = [f'{{"type":"batch","at":{second}.5,"spent":1,"segments":[]}}\n' for second in (10, 20)]
    path.write_text(path.read_text() + "".join(batches) + '{"type":"batch","at":3')
    assert await read(tmp_path) == 20.5
    path.write_text("x" * 200_000 + "\n" + batches[0])
    assert await read(tmp_path) == 10.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("loading\n", None),
        ('{"stem":"a","progress":12.5,"of":60.0}\nwarning: something\n', 12.5),
    ],
)
async def test_without_partial_file_progress_is_that_of_the_log(
    tmp_path: Path, text: str | None, seconds: float | None
):
    assert await read(tmp_path, text) == seconds


async def test_a_unit_without_open_tasks_has_no_progress(tmp_path: Path):
    assert (
        await WorkerProgressReader(LogsOnlyClient("x"), "ns", OutputFolder(tmp_path)).read_audio_position([], RUNNING)
        is None
    )  # type: ignore[arg-type]
