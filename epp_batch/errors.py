"""Every exception of the batch stage, and what a worker's exit code means.

EppError
└── BatchError               one line for the person at the terminal: what, where, remedy
    ├── InputError           a source, manifest or option is wrong; nothing was started
    ├── FolderError          the output folder cannot be used
    ├── ClusterError         the API server refused, or a queue cannot ever admit; carries all problems found
    │   └── Unreachable      no answer from the API server; the driver tries again
    └── WorkError            one recording failed; knows its kind
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from epp.errors import EppError, Problem


class BatchError(EppError):
    """Ends a command with one line, or a list of lines; `remedy` says the way out."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(f"{message}; {remedy}" if remedy else message)


class InputError(BatchError):
    """What was asked for makes no sense; nothing was started."""


class FolderError(BatchError):
    """The output folder cannot be read or written."""


class ClusterError(BatchError):
    """The cluster will not do it; `problems` lists everything found wrong, each with its object."""

    def __init__(self, message: str, problems: Sequence[Problem] = (), *, remedy: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  {problem}" for problem in problems)]), remedy=remedy)


class ApiServerUnreachable(ClusterError):
    """The API server does not answer at present."""


class TaskStage(Enum):
    """Where on its way a recording failed."""

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
    """One kind of failure: the worker's exit code, whether trying again can help, what a person can do."""

    exit_code: int
    permanent: bool
    remedy: str


class FailureKind(FailureTraits, Enum):
    """Classified failures, with exit codes for a podFailurePolicy to tell apart (sysexits.h where one fits)."""

    CORRUPT = FailureTraits(64, True, "check that the file plays; convert it with ffmpeg, then submit again")
    SILENT = FailureTraits(65, True, "nobody speaks in it; transcribe with --no-vad if that is wrong")
    MISSING = FailureTraits(66, True, "check the path, or the volume that should hold it")
    DOWNLOAD = FailureTraits(69, False, "see whether the server gives the file, then run the same command again")
    INTERNAL = FailureTraits(70, False, "a defect of the worker; its log has the traceback")
    MEMORY = FailureTraits(
        71, False, "use a larger slice or GPU, a smaller model, --compute-type int8 or a smaller --batch-size"
    )
    UNWRITABLE = FailureTraits(73, True, "make the output folder writable for the worker; in pods by --run-as UID:GID")
    DISK_FULL = FailureTraits(74, False, "free space on the output volume; what is finished stays")
    TIMEOUT = FailureTraits(75, False, "raise --max-seconds, or use a faster accelerator")
    SUMMARY = FailureTraits(76, False, "run `epp-batch summarize`; what is summarised stays")
    REFUSED = FailureTraits(
        77, True, "see `epp-batch status`; change the queue, the request or the quota, then submit again"
    )
    MODEL = FailureTraits(
        78, True, "give the folder of a CTranslate2 Whisper model with --model-path, or allow --fetch-model"
    )
    KILLED = FailureTraits(137, False, "the node killed the process: most often memory; raise --memory")
    STOPPED = FailureTraits(143, False, "preempted or evicted; it goes on where it was when it is admitted again")

    @classmethod
    def from_exit_code(cls, code: int) -> FailureKind:
        """The kind that an exit code stands for; INTERNAL for one that no worker of ours gives."""
        return next((kind for kind in cls if kind.exit_code == code), cls.INTERNAL)


class TaskError(BatchError):
    """One recording failed at one stage."""

    def __init__(self, kind: FailureKind, stage: TaskStage, source: str, message: str) -> None:
        self.kind, self.stage, self.source, self.message = kind, stage, source, message
        super().__init__(f"{source}: {stage.value}: {message}", remedy=kind.remedy)
