"""What a summary is on disk, beside its transcript."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from epp_batch import output_folder as files
from epp_batch.errors import BatchError
from epp_batch.output_folder import OutputFolder, TaskFailure
from epp_batch.spec import Task
from epp_batch.summaries.prompt import TranscriptTrim

TEXT_SUFFIX, SIDECAR_SUFFIX, FAILED_SUFFIX = "summary.md", "summary.json", "failed.json"
SUMMARY_STAGE = "summary"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How one summary came about; `<stem>.summary.json`. Times in seconds."""

    key: str
    """Settings.key: another transcript, model or question needs another summary."""
    source: str
    url: str
    model: str
    """As asked for."""
    served_model: str
    """As the answer names it."""
    template: str
    max_tokens: int
    prompt_tokens: int | None
    """As the server counted, like the next two; None where it did not say."""
    cached_tokens: int | None
    completion_tokens: int | None
    trim: TranscriptTrim | None
    """What was left out of the transcript; None where nothing was."""
    ttft: float
    """From sending the request to the first token, thoughts included; of the attempt that succeeded."""
    total: float
    """From sending the request to the end of the answer; of the attempt that succeeded."""
    waited: float
    """Before the attempt that succeeded: counting tokens, other attempts and the pauses after them."""
    attempts: int
    refusals: dict[str, int]
    """What the other attempts got -> how often."""
    finish_reason: str
    """`stop`, or `length` for one that was cut at max_tokens."""
    request_id: str
    """For `epp explain`."""
    started: float
    """Wall, since 1970, of the first attempt."""
    finished: float


class SummaryError(BatchError):
    """One transcript could not be summarised."""

    def __init__(self, source: str, message: str, remedy: str, kind: str = SUMMARY_STAGE) -> None:
        self.source, self.message, self.kind = source, message, kind
        super().__init__(f"{source}: {SUMMARY_STAGE}: {message}", remedy=remedy)


class _TranscriptText(msgspec.Struct):
    """The part of `<stem>.json` that is needed."""

    text: str


def load_transcript(folder: OutputFolder, task: Task) -> str:
    """The words of a finished transcript in one line; raises Unsummarized where there are none."""
    source = task.recording.source
    path = folder.path(task.stem, "txt")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        whole = files.load_struct(folder.path(task.stem, "json"), _TranscriptText)
        if whole is None:
            remedy = "transcribe with the format txt or json, and summarise where the output volume is mounted"
            raise SummaryError(source, f"{path} is missing", remedy) from None
        text = whole.text
    except OSError as error:
        raise SummaryError(source, f"{path}: {error.strerror}", "make it readable") from error
    words = " ".join(text.split())
    if not words:
        raise SummaryError(source, f"{path} has no words", "listen whether anybody speaks")
    return words


def find_current_summary(folder: OutputFolder, task: Task, key: Callable[[str], str], model: str) -> Summary | None:
    """The summary that is there already, if it answers the same question; `key` is the question's for a model.

    With no `model` named, the one that wrote it will do: nobody needs to ask the gateway which it would take now.
    """
    summary = files.load_struct(folder.path(task.stem, SIDECAR_SUFFIX), Summary)
    if summary is None or not folder.path(task.stem, TEXT_SUFFIX).is_file():
        return None
    return summary if summary.key == key(model or summary.model) else None


def save_summary(folder: OutputFolder, task: Task, text: str, summary: Summary) -> None:
    """Writes text and sidecar under every name of the recording, the sidecar last; clears an earlier failure.

    Raises FolderError, or OSError when the disk is full.
    """
    body = render_markdown(task, text, summary).encode()
    for stem in task.recording.stems:
        files.write_atomically(folder.path(stem, TEXT_SUFFIX), body)
        files.save_struct(folder.path(stem, SIDECAR_SUFFIX), summary)
    failure = folder.load_failure(task.stem)
    if failure is not None and failure.stage == SUMMARY_STAGE:
        with contextlib.suppress(OSError):
            folder.path(task.stem, FAILED_SUFFIX).unlink()


def save_summary_failure(folder: OutputFolder, task: Task, failure: TaskFailure) -> None:
    """Notes why there is no summary; without a word where nothing can be written."""
    with contextlib.suppress(BatchError, OSError):
        files.save_struct(folder.path(task.stem, FAILED_SUFFIX), failure)


def render_markdown(task: Task, text: str, summary: Summary) -> str:
    """The summary as Markdown; says so where it rests on a part of the transcript, or was cut itself."""
    notes = []
    if summary.trim is not None:
        trim = summary.trim
        part = "start" if trim.keep == "start" else "start and end"
        share = trim.to_characters / trim.from_characters
        notes.append(f"Of the {part} of the transcript ({share:.0%} of it): all of it did not fit.")
    if summary.finish_reason == "length":
        notes.append(f"Cut at {summary.max_tokens} tokens.")
    lines = [f"# {task.stem}", "", text, *(line for note in notes for line in ("", f"*{note}*"))]
    return "\n".join(lines) + "\n"
