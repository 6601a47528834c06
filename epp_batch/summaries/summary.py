"""Summary files: `<stem>.summary.md` with the text, `<stem>.summary.json` with its metadata, or a failure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from epp_batch.errors import BatchError
from epp_batch.output_folder import OutputFolder, TaskFailure, load_struct, save_struct, write_atomically
from epp_batch.spec import Task
from epp_batch.summaries.prompt import TranscriptTrim

TEXT_SUFFIX, SIDECAR_SUFFIX, FAILED_SUFFIX = "summary.md", "summary.json", "failed.json"
SUMMARY_STAGE = "summary"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of one summary; the content of `<stem>.summary.json`. Times are in seconds."""

    key: str
    """`SummarySettings.key` of the transcript, model and question."""
    source: str
    url: str
    model: str
    """The requested model."""
    served_model: str
    """The model named in the response."""
    template: str
    max_tokens: int
    prompt_tokens: int | None
    """From the response's usage, like the next two; None if it has none."""
    cached_tokens: int | None
    completion_tokens: int | None
    trim: TranscriptTrim | None
    """How the transcript was trimmed; None if it was not."""
    ttft: float
    """Time to first token, reasoning tokens included, of the successful attempt."""
    total: float
    """From sending the request to the end of the response, of the successful attempt."""
    waited: float
    """Time before the successful attempt: token counting, failed attempts and the delays after them."""
    attempts: int
    refusals: dict[str, int]
    """Number of failed attempts by kind."""
    finish_reason: str
    """OpenAI's finish_reason: `stop`, or `length` if cut at max_tokens."""
    request_id: str
    """The request id, for `epp explain`."""
    started: float
    """Unix time of the first attempt."""
    finished: float


class SummaryError(BatchError):
    """One transcript could not be summarized. `message` is without source and stage."""

    def __init__(self, source: str, message: str, remedy: str, kind: str = SUMMARY_STAGE) -> None:
        super().__init__(f"{source}: {SUMMARY_STAGE}: {message}", remedy=remedy)
        self.source, self.message, self.kind = source, message, kind


class _TranscriptText(msgspec.Struct):
    """The text of `<stem>.json`."""

    text: str


def load_transcript(folder: OutputFolder, task: Task) -> str:
    """The text of a finished transcript in one line; raises SummaryError if it is missing, unreadable or empty."""
    source = task.recording.source
    path = folder.path(task.stem, "txt")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        whole = load_struct(folder.path(task.stem, "json"), _TranscriptText)
        if whole is None:
            remedy = "transcribe with the format txt or json, and run summarize where the output volume is mounted"
            raise SummaryError(source, f"{path} is missing", remedy) from None
        text = whole.text
    except OSError as error:
        raise SummaryError(source, f"{path}: {error.strerror}", "make it readable") from error
    words = " ".join(text.split())
    if not words:
        raise SummaryError(source, f"{path} has no words", "check the recording")
    return words


def find_current_summary(folder: OutputFolder, task: Task, key: Callable[[str], str], model: str) -> Summary | None:
    """The existing summary if its key is current; `key` maps a model to the key of the question. None otherwise.

    If no `model` is requested, a summary by any model counts: the gateway need not be asked for its models.
    """
    summary = load_struct(folder.path(task.stem, SIDECAR_SUFFIX), Summary)
    if summary is None or not folder.path(task.stem, TEXT_SUFFIX).is_file():
        return None
    return summary if summary.key == key(model or summary.model) else None


def save_summary(folder: OutputFolder, task: Task, text: str, summary: Summary) -> None:
    """Writes text and sidecar under every stem of the recording, the sidecar last; removes an earlier failure.

    Raises FolderError, or OSError if the disk is full.
    """
    body = render_markdown(task, text, summary).encode()
    for stem in task.recording.stems:
        write_atomically(folder.path(stem, TEXT_SUFFIX), body)
        save_struct(folder.path(stem, SIDECAR_SUFFIX), summary)
    failure = folder.load_failure(task.stem)
    if failure is not None and failure.stage == SUMMARY_STAGE:
        with contextlib.suppress(OSError):
            folder.path(task.stem, FAILED_SUFFIX).unlink()


def save_summary_failure(folder: OutputFolder, task: Task, failure: TaskFailure) -> None:
    """Writes the failure of a summary; errors of writing are ignored."""
    with contextlib.suppress(BatchError, OSError):
        save_struct(folder.path(task.stem, FAILED_SUFFIX), failure)


def render_markdown(task: Task, text: str, summary: Summary) -> str:
    """The summary as Markdown, with a note if the transcript was trimmed or the answer was cut."""
    notes = []
    if summary.trim is not None:
        trim = summary.trim
        part = "start" if trim.keep == "start" else "start and end"
        share = trim.to_characters / trim.from_characters
        notes.append(f"Based on the {part} of the transcript ({share:.0%} of it): the whole did not fit.")
    if summary.finish_reason == "length":
        notes.append(f"Cut at {summary.max_tokens} tokens.")
    lines = [f"# {task.stem}", "", text, *(line for note in notes for line in ("", f"*{note}*"))]
    return "\n".join(lines) + "\n"
