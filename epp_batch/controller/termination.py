"""What an ended Job proves about one task: a result or a failure, from termination messages, pods and conditions.

A worker writes its termination message (`/dev/termination-log`, `epp_batch.worker.messages`) as JSON when it ends; the
kubelet puts it into the pod's status. It is how results get here from an output folder that is on another machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from epp_batch.controller.milestones import describe_pod_failure
from epp_batch.controller.unit_status import UnitObjects, UnitStatus, worker_state
from epp_batch.errors import FailureKind, TaskStage
from epp_batch.kube.objects import Pod
from epp_batch.manifests.jobs import IGNORED_POD_CONDITION
from epp_batch.output_folder import TaskFailure, TranscriptionResult
from epp_batch.spec import Task, TranscriptionOptions

_TIMEOUT_REASONS = ("MaximumExecutionTimeExceeded", "DeadlineExceeded")
"""Kueue's (maximumExecutionTimeSeconds of the Workload), and the Job controller's (activeDeadlineSeconds)."""


class TaskTermination(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a termination message. It failed if `kind` is not empty. Times in wall seconds since 1970."""

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
    """What a worker leaves in its pod's status when it ends."""

    tasks: list[TaskTermination] = []


_message_decoder = msgspec.json.Decoder(TerminationMessage)


def parse_termination_messages(pods: Iterable[Pod]) -> dict[str, TaskTermination]:
    """Entries of the pods' termination messages by task key. A success wins over the failure of another attempt."""
    entries: dict[str, TaskTermination] = {}
    for pod in pods:
        terminated = worker_state(pod).terminated
        if terminated is None or not terminated.message:
            continue
        # A worker that wrote no message leaves the tail of its log (FallbackToLogsOnError), which is no JSON.
        with contextlib.suppress(msgspec.DecodeError):
            for entry in _message_decoder.decode(terminated.message).tasks:
                if entry.key not in entries or not entry.kind:
                    entries[entry.key] = entry
    return entries


def result_from_message(
    task: Task, options: TranscriptionOptions, entry: TaskTermination, host: str = ""
) -> TranscriptionResult:
    """The result that a termination message reports. `files` stays empty: they are in a folder that we do not see."""
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
    """The failure that a termination message reports."""
    kind = FailureKind.__members__.get(entry.kind.upper(), FailureKind.INTERNAL)
    stage = entry.stage or TaskStage.TRANSCRIBE.value
    message = " ".join(entry.message.split())
    return TaskFailure.from_kind(kind, stage, task.recording.source, message, entry.key, entry.finished)


def explain_failure(task: Task, key: str, status: UnitStatus, objects: UnitObjects, at: float) -> TaskFailure:
    """The failure of a task without transcript whose Job has ended or can never run, as the API objects explain it.

    `key` is the task's key; `at` the failure's time in wall seconds.
    """
    kind, stage, message = _find_cause(status, objects)
    return TaskFailure.from_kind(kind, stage.value, task.recording.source, " ".join(message.split()), key, at)


def _find_cause(status: UnitStatus, objects: UnitObjects) -> tuple[FailureKind, TaskStage, str]:
    """Kind, stage and message of the failure of a unit's Job."""
    if status.reason in _TIMEOUT_REASONS:
        return FailureKind.TIMEOUT, TaskStage.POD, status.message or status.reason
    if status.phase in ("queued", "deactivated"):
        return FailureKind.REFUSED, TaskStage.QUEUE, status.message or status.reason
    if status.phase == "succeeded":
        message = "its Job succeeded, but the transcript is not in the output folder"
        return FailureKind.MISSING, TaskStage.WRITE, message
    pod = objects.newest_pod
    if pod is None:
        message = f"its Job failed ({status.reason}: {status.message}), and its pod has been deleted"
        return FailureKind.INTERNAL, TaskStage.POD, message
    attempts = sum(pod.is_terminal for pod in objects.pods)
    message = describe_pod_failure(pod) + (f", after {attempts} pods" if attempts > 1 else "")
    return _failure_kind(pod), TaskStage.POD, message


def _failure_kind(pod: Pod) -> FailureKind:
    terminated = worker_state(pod).terminated
    if pod.true_condition(IGNORED_POD_CONDITION) is not None:
        return FailureKind.STOPPED
    if terminated is None:
        return FailureKind.INTERNAL
    return FailureKind.KILLED if terminated.reason == "OOMKilled" else FailureKind.from_exit_code(terminated.exit_code)
