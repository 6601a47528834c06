"""Exceptions of the batch stage, and the meaning of a worker's exit codes.

EppError
└── BatchError                    ends a command with a message for the terminal: what, where, remedy
    ├── InputError                a source, manifest or option is invalid; nothing was started
    ├── FolderError               the output folder cannot be read or written
    ├── ClusterError              the API server rejected a request, or preflight failed; lists all problems
    │   └── ApiServerUnreachable  no answer from the API server; the controller retries
    └── TaskError                 one recording failed, with its kind and stage

Defined where they are raised: epp_batch.kube.errors (one per HTTP status of the API server), WorkerDied (local),
AttemptFailed and SummaryError (summaries).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from epp.errors import EppError, Problem


class BatchError(EppError):
    """Ends a command; `message` and `remedy` (what the user can do) are printed to stderr, joined by a semicolon."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message, self.remedy = message, remedy
        super().__init__(f"{message}; {remedy}" if remedy else message)


class InputError(BatchError):
    """An invalid source, manifest or option; nothing was started."""


class FolderError(BatchError):
    """The output folder cannot be read or written."""


class ClusterError(BatchError):
    """The API server rejected a request, or the run can never be admitted; `problems` lists every cause with its
    object."""

    def __init__(self, message: str, problems: Sequence[Problem] = (), *, remedy: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  {problem}" for problem in problems)]), remedy=remedy)


class ApiServerUnreachable(ClusterError):
    """The API server does not answer, or answers 5xx; worth a retry."""


class TaskStage(Enum):
    """The stage of a task at which it failed."""

    PROBE = "probe"
    DOWNLOAD = "download"
    DECODE = "decode"
    LOAD = "load"
    TRANSCRIBE = "transcribe"
    WRITE = "write"
    QUEUE = "queue"
    POD = "pod"
    SUMMARY = "summary"


class FailureTraits(NamedTuple):
    """Properties of a failure kind: the worker's exit code, whether a retry is pointless, what the user can do."""

    exit_code: int
    permanent: bool
    remedy: str


class FailureKind(FailureTraits, Enum):
    """Kinds of failure.

    Their exit codes are what the Job's podFailurePolicy distinguishes; from sysexits.h where one fits.
    """

    CORRUPT = FailureTraits(64, True, "check that the file plays; convert it with ffmpeg, then submit again")
    SILENT = FailureTraits(65, True, "no speech was detected; transcribe with --no-vad if that is wrong")
    MISSING = FailureTraits(66, True, "check the path, and the volume that should contain it")
    DOWNLOAD = FailureTraits(69, False, "check that the server serves the file, then run the same command again")
    INTERNAL = FailureTraits(70, False, "a defect of the worker; its log has the traceback")
    MEMORY = FailureTraits(
        71, False, "use a larger slice or GPU, a smaller model, --compute-type int8 or a smaller --batch-size"
    )
    UNWRITABLE = FailureTraits(73, True, "make the output folder writable for the worker; in pods by --run-as UID:GID")
    DISK_FULL = FailureTraits(74, False, "free space on the output volume; finished transcripts are kept")
    TIMEOUT = FailureTraits(75, False, "raise --max-seconds, or use a faster accelerator")
    SUMMARY = FailureTraits(76, False, "run `epp-batch summarize`; existing summaries are kept")
    REFUSED = FailureTraits(
        77, True, "see `epp-batch status`; change the queue, the request or the quota, then submit again"
    )
    MODEL = FailureTraits(
        78, True, "give the folder of a CTranslate2 Whisper model with --model-path, or allow --fetch-model"
    )
    KILLED = FailureTraits(137, False, "the node killed the process: most often memory; raise --memory")
    STOPPED = FailureTraits(143, False, "preempted or evicted; it resumes where it stopped when it is admitted again")

    @classmethod
    def from_exit_code(cls, code: int) -> FailureKind:
        """The kind with that exit code; INTERNAL for an unknown code."""
        return next((kind for kind in cls if kind.exit_code == code), cls.INTERNAL)


class TaskError(BatchError):
    """One recording failed at one stage; its failure kind decides about retries.

    `message` is without source and stage, which the text of the exception begins with.
    """

    def __init__(self, kind: FailureKind, stage: TaskStage, source: str, message: str) -> None:
        super().__init__(f"{source}: {stage.value}: {message}", remedy=kind.remedy)
        self.kind, self.stage, self.source, self.message = kind, stage, source, message
