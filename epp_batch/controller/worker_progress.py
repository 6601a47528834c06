"""How far a running worker has got: from its partial file where the output folder is shared, else from its log."""

from __future__ import annotations

import msgspec

from epp_batch.errors import ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.objects import Pod
from epp_batch.kube.resources import PODS
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import Task

TAIL_BYTES = 65_536
"""A batch of segments with word times is a few kB."""


class _PartialSegments(msgspec.Struct):
    at: float


class _ProgressLine(msgspec.Struct):
    progress: float
    stem: str = ""


_partial_decoder = msgspec.json.Decoder(_PartialSegments)
_progress_decoder = msgspec.json.Decoder(_ProgressLine)


class WorkerProgressReader:
    """Reads, and forgets."""

    def __init__(self, client: ApiClient, namespace: str, folder: OutputFolder) -> None:
        self._client, self._namespace, self._folder = client, namespace, folder

    async def read_audio_position(self, tasks: list[Task], pod: Pod) -> float | None:
        """Audio seconds of the first of `tasks`, the one under way; None where nobody tells."""
        if not tasks:
            return None
        at = self._read_partial_file(tasks[0])
        return at if at is not None else await self._read_pod_log(pod)

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
            text = await self._client.read_text(path, container="worker", tailLines="5")
        except ClusterError:
            return None
        return _last_value(text.encode().splitlines(), _progress_decoder, "progress")


def _last_value(
    lines: list[bytes], decoder: msgspec.json.Decoder[_PartialSegments] | msgspec.json.Decoder[_ProgressLine], name: str
) -> float | None:
    for line in reversed(lines):
        try:
            return float(getattr(decoder.decode(line), name))
        except msgspec.DecodeError:
            continue
    return None
