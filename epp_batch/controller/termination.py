"""What an ended Job left of one task: a result or a failure, from its files, its pod's last words, or its conditions.

Pure but for what it is handed; `note` is the worker's termination message (epp_batch.worker.messages).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from epp_batch.controller.unit_status import UnitObjects, UnitStatus, describe_pod_failure
from epp_batch.errors import FailureKind, TaskStage
from epp_batch.kube.objects import Pod
from epp_batch.manifests.jobs import IGNORED_POD_CONDITION
from epp_batch.output_folder import TaskFailure, TranscriptionResult
from epp_batch.spec import Task, TranscriptionOptions

_TIMEOUT_REASONS = ("MaximumExecutionTimeExceeded", "DeadlineExceeded")


class TaskTermination(msgspec.Struct, frozen=True, kw_only=True):
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


class TerminationMessage(msgspec.Struct):
    tasks: list[TaskTermination] = []


_message_decoder = msgspec.json.Decoder(TerminationMessage)


def parse_termination_messages(pods: Iterable[Pod]) -> dict[str, TaskTermination]:
    """By task key, what the pods' termination messages say; a success counts more than a failure of another attempt."""
    found: dict[str, TaskTermination] = {}
    for pod in pods:
        ended = pod.container_state.terminated
        if ended is None or not ended.message:
            continue
        with contextlib.suppress(msgspec.DecodeError):  # the tail of a log, where the worker left no note
            for entry in _message_decoder.decode(ended.message).tasks:
                if entry.key not in found or not entry.kind:
                    found[entry.key] = entry
    return found


def result_from_message(
    task: Task, options: TranscriptionOptions, entry: TaskTermination, host: str = ""
) -> TranscriptionResult:
    """A task's result as far as a note tells it: no files are counted, since nobody here sees them."""
    spent = entry.timings.get("transcribe", 0.0)
    return TranscriptionResult(
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


def failure_from_message(task: Task, entry: TaskTermination) -> TaskFailure:
    """The failure that a worker told of."""
    kind = FailureKind.__members__.get(entry.kind.upper(), FailureKind.INTERNAL)
    return _build_failure(
        task, entry.key, kind, entry.stage or TaskStage.TRANSCRIBE.value, entry.message, entry.finished
    )


def explain_failure(task: Task, key: str, state: UnitStatus, facts: UnitObjects, at: float) -> TaskFailure:
    """Why a task has no transcript although its Job has ended, as the cluster tells it; wall second `at`."""
    if state.reason in _TIMEOUT_REASONS:
        return _build_failure(task, key, FailureKind.TIMEOUT, TaskStage.POD.value, state.message or state.reason, at)
    if state.phase in ("queued", "deactivated"):
        return _build_failure(task, key, FailureKind.REFUSED, TaskStage.QUEUE.value, state.message or state.reason, at)
    if state.phase == "succeeded":
        message = "its Job succeeded, but the transcript is not in the output folder"
        return _build_failure(task, key, FailureKind.MISSING, TaskStage.WRITE.value, message, at)
    pod = facts.newest_pod
    if pod is None:
        message = f"its Job failed ({state.reason}: {state.message}), and its pod is gone"
        return _build_failure(task, key, FailureKind.INTERNAL, TaskStage.POD.value, message, at)
    tries = len([one for one in facts.pods if one.is_terminal])
    message = describe_pod_failure(pod) + (f", after {tries} pods" if tries > 1 else "")
    return _build_failure(task, key, _failure_kind(pod), TaskStage.POD.value, message, at)


def _failure_kind(pod: Pod) -> FailureKind:
    ended = pod.container_state.terminated
    if pod.true_condition(IGNORED_POD_CONDITION) is not None:
        return FailureKind.STOPPED
    if ended is None:
        return FailureKind.INTERNAL
    return FailureKind.KILLED if ended.reason == "OOMKilled" else FailureKind.from_exit_code(ended.exit_code)


def _build_failure(task: Task, key: str, kind: FailureKind, stage: str, message: str, at: float) -> TaskFailure:
    return TaskFailure(
        key=key,
        source=task.recording.source,
        stage=stage,
        kind=kind.name.lower(),
        message=" ".join(message.split()),
        remedy=kind.remedy,
        permanent=kind.permanent,
        at=at,
        exit_code=kind.exit_code,
    )
