"""Specification of a run: recordings, transcription options, placement, and the units that become Jobs.

These structs are encoded as JSON in `run.json`, in work orders and in sidecar files: renaming a field changes the file
format.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

TranscriptFormat = Literal["txt", "srt", "vtt", "tsv", "json"]
FORMATS: tuple[TranscriptFormat, ...] = ("txt", "srt", "vtt", "tsv", "json")


class TranscriptionOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of one transcription, named as in faster-whisper.

    Part of `Task.key`: changed options mean a new transcription.
    """

    language: str | None = None
    """ISO 639-1 code; None: detected by the model."""
    task: Literal["transcribe", "translate"] = "transcribe"
    beam_size: int = 5
    batch_size: int = 8
    """Windows of speech decoded at once; 1 selects faster-whisper's sequential pipeline."""
    vad: bool = True
    word_timestamps: bool = True
    compute_type: str = "default"
    """CTranslate2 compute type: int8, float16, int8_float16, float32 …; `default`: float16 on a GPU, int8 on a CPU."""
    initial_prompt: str | None = None
    formats: tuple[TranscriptFormat, ...] = FORMATS


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One distinct piece of audio. Sources with equal content share one recording under several stems."""

    source: str
    """Absolute path on the submitting machine, or http(s) URL. In a work order: the path inside the pod."""
    stems: tuple[str, ...]
    """Output file names without suffix, relative to the output folder; several if sources have equal content."""
    sha256: str = ""
    """SHA-256 of the content in hex; of the URL's text if `source` is a URL, which is not downloaded at submission."""
    seconds: float | None = None
    """Duration of the audio; None if unknown."""
    size: int | None = None
    """File size in bytes; None for a URL."""
    reference: str | None = None
    """Path of a human reference transcript, for the word error rate."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One recording to transcribe with one model."""

    recording: Recording
    model: str

    def key(self, options: TranscriptionOptions) -> str:
        """12 hex digits, equal for equal content, model and options.

        A result with the same key needs no new transcription.
        """
        parts = (self.recording.sha256 or self.recording.source, self.model, msgspec.json.encode(options).decode())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    @property
    def stem(self) -> str:
        """The output name that the worker writes; the further stems are links to its files."""
        return self.recording.stems[0]


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one Job: one task, or a shard of several short tasks with the same model."""

    name: str
    """The Job's name: `<run>-<12 hex digits>`, derived from the keys of its tasks."""
    tasks: tuple[Task, ...]

    @property
    def model(self) -> str:
        return self.tasks[0].model

    @property
    def seconds(self) -> float | None:
        """Total audio seconds; None if any recording's duration is unknown."""
        lengths = [task.recording.seconds for task in self.tasks]
        return None if None in lengths else sum(length for length in lengths if length is not None)


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """Storage shared with the pods: mounted at `mount` in the pod, visible at `local` on this machine (None: not)."""

    source: str
    """`pvc/NAME`, `host/ABSOLUTE-PATH` or, read-only, `image/REFERENCE`."""
    mount: str
    local: str | None = None
    read_only: bool = False


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Accelerator, resources and queue of the Jobs of one model."""

    accelerator: str = "gpu"
    """`gpu[:N]`, `mig:<profile>`, `dra:<profile>`, `dra-gpu` or `cpu`; see epp_batch.manifests.accelerators."""
    cpu: str | None = None
    memory: str | None = None
    queue: str | None = None
    """LocalQueue; None: `ClusterOptions.queue`."""
    priority_class: str | None = None
    """Name of a Kueue WorkloadPriorityClass."""
    model_path: str | None = None
    """Folder of the CTranslate2 model, as a path inside the pod."""


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that all Jobs of a run share."""

    namespace: str
    queue: str
    image: str
    volumes: tuple[Volume, ...] = ()
    placements: dict[str, Placement] = {}
    """By model name; "*" holds for models without an entry."""
    retries: int = 3
    """The Job's backoffLimit: retries after transient failures. Preemptions do not count (podFailurePolicy Ignore)."""
    max_exec_seconds: int | None = None
    """Kueue's maximum execution time, summed over all admissions; None: no limit."""
    ttl_seconds: int = 86_400
    service_account: str | None = None
    run_as: str | None = None
    """`UID[:GID]` that the pods run as and that owns the files they write; None: the image's user."""
    node_selector: dict[str, str] = {}

    def placement_for(self, model: str) -> Placement:
        """The placement of a model: its own entry, else "*", else the defaults."""
        return self.placements.get(model) or self.placements.get("*") or Placement()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The complete specification of a run; the content of `run.json`.

    `cluster` is None for `transcribe`, which runs locally.
    """

    name: str
    output: str
    """Absolute path of the output folder on the submitting machine."""
    options: TranscriptionOptions
    units: tuple[Unit, ...]
    cluster: ClusterOptions | None = None
    created: float = 0.0
    """Unix time in seconds."""
    fetch_model: bool = False
    """Workers may download a missing model from the Hugging Face hub."""
    max_seconds: float | None = None
    """Wall-clock limit in seconds for one recording; None: no limit."""
    version: Literal[1] = 1

    def list_tasks(self) -> list[Task]:
        """All tasks in submission order."""
        return [task for unit in self.units for task in unit.tasks]


class WorkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one worker: `EPP_BATCH_ORDER` in a pod's environment, one line of JSON on stdin for a local worker.

    Sources and folders are paths in the worker's file system.
    """

    run: str
    unit: str
    output: str
    options: TranscriptionOptions
    tasks: tuple[Task, ...]
    model_path: str | None = None
    fetch_model: bool = False
    max_seconds: float | None = None
    """Wall-clock limit in seconds for one recording; None: no limit."""
    threads: int = 0
    """CPU threads; 0: all cores that the container may use."""


WORK_ORDER_VARIABLE = "EPP_BATCH_ORDER"


def is_url(source: str) -> bool:
    """Whether a source is an http(s) URL rather than a path."""
    return source.startswith(("http://", "https://"))
