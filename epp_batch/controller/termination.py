"""What an ended Job left of one task: a result or a failure, from its files, its pod's last words, or its conditions.

Pure but for what it is handed; `note` is the worker's termination message (epp_batch.worker.lines).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from epp_batch.controller.unit_status import Facts, State, why_pod_failed
from epp_batch.errors import Kind, Stage
from epp_batch.kube.objects import Pod
from epp_batch.manifests.jobs import FORGIVEN_CONDITION
from epp_batch.output_folder import Failure, Result
from epp_batch.spec import Options, Task

_OUT_OF_TIME = ("MaximumExecutionTimeExceeded", "DeadlineExceeded")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One task in a worker's note. With `kind` it failed."""

    stem: str
    key: str
    audio_seconds: float = 0.0
    timings: dict[str, float] = {}
    started: float = 0.0
    finished: float = 0.0
    kind: str = ""
    stage: str = ""
    message: str = ""


class _Note(msgspec.Struct):
    tasks: list[Entry] = []


_notes = msgspec.json.Decoder(_Note)


def notes(pods: Iterable[Pod]) -> dict[str, Entry]:
    """By task key, what the pods' termination messages say; a success counts more than a failure of another attempt."""
    found: dict[str, Entry] = {}
    for pod in pods:
        ended = pod.container.terminated
        if ended is None or not ended.message:
            continue
        with contextlib.suppress(msgspec.DecodeError):  # the tail of a log, where the worker left no note
            for entry in _notes.decode(ended.message).tasks:
                if entry.key not in found or not entry.kind:
                    found[entry.key] = entry
    return found


def result(task: Task, options: Options, entry: Entry, host: str = "") -> Result:
    """A task's result as far as a note tells it: no files are counted, since nobody here sees them."""
    spent = entry.timings.get("transcribe", 0.0)
    return Result(
        key=entry.key,
        source=task.recording.source,
        sha256=task.recording.sha256,
        model=task.model,
        options=options,
        audio_seconds=entry.audio_seconds,
        started=entry.started,
        finished=entry.finished,
        timings=entry.timings,
        rtf=spent / entry.audio_seconds if entry.audio_seconds else 0.0,
        host=host,
    )


def of_note(task: Task, entry: Entry) -> Failure:
    """The failure that a worker told of."""
    kind = Kind.__members__.get(entry.kind.upper(), Kind.INTERNAL)
    return _failure(task, entry.key, kind, entry.stage or Stage.TRANSCRIBE.value, entry.message, entry.finished)


def explain(task: Task, key: str, state: State, facts: Facts, at: float) -> Failure:
    """Why a task has no transcript although its Job has ended, as the cluster tells it; wall second `at`."""
    if state.reason in _OUT_OF_TIME:
        return _failure(task, key, Kind.TIMEOUT, Stage.POD.value, state.message or state.reason, at)
    if state.phase in ("queued", "deactivated"):
        return _failure(task, key, Kind.REFUSED, Stage.QUEUE.value, state.message or state.reason, at)
    if state.phase == "succeeded":
        message = "its Job succeeded, but the transcript is not in the output folder"
        return _failure(task, key, Kind.MISSING, Stage.WRITE.value, message, at)
    pod = facts.pod
    if pod is None:
        message = f"its Job failed ({state.reason}: {state.message}), and its pod is gone"
        return _failure(task, key, Kind.INTERNAL, Stage.POD.value, message, at)
    tries = len([one for one in facts.pods if one.ended])
    message = why_pod_failed(pod) + (f", after {tries} pods" if tries > 1 else "")
    return _failure(task, key, _kind(pod), Stage.POD.value, message, at)


def _kind(pod: Pod) -> Kind:
    ended = pod.container.terminated
    if pod.condition(FORGIVEN_CONDITION) is not None:
        return Kind.STOPPED
    if ended is None:
        return Kind.INTERNAL
    return Kind.KILLED if ended.reason == "OOMKilled" else Kind.of_code(ended.exit_code)


def _failure(task: Task, key: str, kind: Kind, stage: str, message: str, at: float) -> Failure:
    return Failure(
        key=key,
        source=task.recording.source,
        stage=stage,
        kind=kind.name.lower(),
        message=" ".join(message.split()),
        remedy=kind.remedy,
        permanent=kind.permanent,
        at=at,
        exit_code=kind.code,
    )
