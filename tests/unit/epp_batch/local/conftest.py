"""Tasks, and a worker that ends as soon as it has started."""

from __future__ import annotations

import pytest

from epp.clock import SystemClock
from epp_batch.local.worker_process import WorkerProcess
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import Recording, Task, TranscriptionOptions

OPTIONS = TranscriptionOptions(formats=("txt",))
BROKEN_PYTHON = {"PYTHONHOME": "/nowhere"}
"""An environment in which no Python starts."""


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(tmp_path)


def task(stem, *others, model="tiny.en"):
    source = f"/audio/{stem}.wav"
    return Task(recording=Recording(source=source, stems=(stem, *others), sha256=stem, seconds=10.0), model=model)


def create_broken_worker(folder, number=0):
    return WorkerProcess(number, folder.root / f"worker-{number}.log", BROKEN_PYTHON, SystemClock())
