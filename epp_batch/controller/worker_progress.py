"""How far a running worker has got: from its partial file where the output folder is shared, else from its log."""

from __future__ import annotations

import msgspec

from epp_batch.errors import ClusterError
from epp_batch.kube.client import Client
from epp_batch.kube.objects import Pod
from epp_batch.kube.resources import PODS
from epp_batch.output_folder import Folder
from epp_batch.spec import Task

TAIL_BYTES = 65_536
"""A batch of segments with word times is a few kB."""


class _Batch(msgspec.Struct):
    at: float


class _Line(msgspec.Struct):
    progress: float
    stem: str = ""


_batches = msgspec.json.Decoder(_Batch)
_lines = msgspec.json.Decoder(_Line)


class Progress:
    """Reads, and forgets."""

    def __init__(self, client: Client, namespace: str, folder: Folder) -> None:
        self._client, self._namespace, self._folder = client, namespace, folder

    async def read(self, tasks: list[Task], pod: Pod) -> float | None:
        """Audio seconds of the first of `tasks`, the one under way; None where nobody tells."""
        if not tasks:
            return None
        at = self._of_file(tasks[0])
        return at if at is not None else await self._of_log(pod)

    def _of_file(self, task: Task) -> float | None:
        try:
            with self._folder.path(task.stem, "partial.jsonl").open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - TAIL_BYTES))
                tail = file.read().splitlines()
        except OSError:
            return None
        return _last(tail, _batches, "at")

    async def _of_log(self, pod: Pod) -> float | None:
        path = PODS.path(self._namespace, pod.metadata.name, "log")
        try:
            text = await self._client.text(path, container="worker", tailLines="5")
        except ClusterError:
            return None
        return _last(text.encode().splitlines(), _lines, "progress")


def _last(
    lines: list[bytes], decoder: msgspec.json.Decoder[_Batch] | msgspec.json.Decoder[_Line], name: str
) -> float | None:
    for line in reversed(lines):
        try:
            return float(getattr(decoder.decode(line), name))
        except msgspec.DecodeError:
            continue
    return None
