"""Progress of a running worker: from its partial file if the output folder is shared, else from its log."""

from __future__ import annotations

import msgspec

from epp_batch.errors import ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.objects import Pod
from epp_batch.kube.resources import PODS
from epp_batch.manifests.jobs import CONTAINER_NAME
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import Task

TAIL_BYTES = 65_536
"""Read from the end of a partial file. A batch of segments with word timestamps has a few kB."""


class _PartialSegments(msgspec.Struct):
    """A line of `<stem>.partial.jsonl` (epp_batch.worker.partial_file)."""

    at: float


class _ProgressLine(msgspec.Struct):
    """A line of a worker's log (epp_batch.worker.messages)."""

    progress: float
    stem: str = ""


_partial_decoder = msgspec.json.Decoder(_PartialSegments)
_progress_decoder = msgspec.json.Decoder(_ProgressLine)


class WorkerProgressReader:
    """Reads progress in one namespace and one output folder; keeps no state between calls."""

    def __init__(self, client: ApiClient, namespace: str, folder: OutputFolder) -> None:
        self._client, self._namespace, self._folder = client, namespace, folder

    async def read_audio_position(self, tasks: list[Task], pod: Pod) -> float | None:
        """Seconds of audio transcribed of the first of the unit's open tasks, the current one; None if unknown."""
        if not tasks:
            return None
        position = self._read_partial_file(tasks[0])
        return position if position is not None else await self._read_pod_log(pod)

    def _read_partial_file(self, task: Task) -> float | None:
        try:
            with self._folder.path(task.stem, "partial.jsonl").open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - TAIL_BYTES))
                tail = file.read().splitlines()
        except OSError:
            return None
        return _last_value(tail, _partial_decoder, "at")

    async def _read_pod_log(self, pod: Pod) -> float | None:
        path = PODS.path(self._namespace, pod.metadata.name, "log")
        try:
            text = await self._client.read_text(path, container=CONTAINER_NAME, tailLines="5")
        except ClusterError:
            return None
        return _last_value(text.encode().splitlines(), _progress_decoder, "progress")


def _last_value(
    lines: list[bytes],
    decoder: msgspec.json.Decoder[_PartialSegments] | msgspec.json.Decoder[_ProgressLine],
    field: str,
) -> float | None:
    """The field of the last line that has it: the last line of all may be torn, or be another kind of line."""
    for line in reversed(lines):
        try:
            return float(getattr(decoder.decode(line), field))
        except msgspec.DecodeError:
            continue
    return None
