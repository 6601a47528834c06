"""What there is to do: recordings, how to transcribe them, and the units that become Jobs.

These structs are the JSON of `run.json`, of the worker's orders and of sidecars: a field that is renamed here is a
new format.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

TranscriptFormat = Literal["txt", "srt", "vtt", "tsv", "json"]
FORMATS: tuple[TranscriptFormat, ...] = ("txt", "srt", "vtt", "tsv", "json")


class TranscriptionOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How Whisper is run. Part of a task's key: other options are other work."""

    language: str | None = None
    """ISO 639-1; None detects it."""
    task: Literal["transcribe", "translate"] = "transcribe"
    beam_size: int = 5
    batch_size: int = 8
    """Chunks decoded at once; 1 is the sequential pipeline."""
    vad: bool = True
    word_timestamps: bool = True
    compute_type: str = "default"
    """CTranslate2's: int8, float16, int8_float16, float32 …; default is float16 on a GPU, int8 on a CPU."""
    initial_prompt: str | None = None
    formats: tuple[TranscriptFormat, ...] = FORMATS


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One distinct piece of audio, however many names it has."""

    source: str
    """Path or http(s) URL, as whoever submitted saw it."""
    stems: tuple[str, ...]
    """Output names without suffix, relative to the output folder; several when sources have the same content."""
    sha256: str = ""
    """Of the bytes; of the URL text where `source` is a URL that was not read."""
    seconds: float | None = None
    """Length of the audio; None where nobody could tell."""
    size: int | None = None
    """Bytes."""
    reference: str | None = None
    """Path of a text that a person wrote, for the word error rate."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One recording to be transcribed by one model."""

    recording: Recording
    model: str

    def key(self, options: TranscriptionOptions) -> str:
        """12 hex digits that are equal for equal content, model and options: what makes a finished task finished."""
        parts = (self.recording.sha256 or self.recording.source, self.model, msgspec.json.encode(options).decode())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    @property
    def stem(self) -> str:
        """The output name that the worker writes; the others are links to it."""
        return self.recording.stems[0]


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What one Job does: one task, or a shard of short ones of the same model."""

    name: str
    """The Job's name: `<run>-<12 hex of its tasks' keys>`."""
    tasks: tuple[Task, ...]

    @property
    def model(self) -> str:
        return self.tasks[0].model

    @property
    def seconds(self) -> float | None:
        """Audio seconds; None as soon as one recording's length is unknown."""
        lengths = [task.recording.seconds for task in self.tasks]
        return None if None in lengths else sum(length for length in lengths if length is not None)


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """Storage that both sides see: `source` in the cluster, `local` here, `mount` in the pod."""

    source: str
    """`pvc/NAME`, `host/ABSOLUTE-PATH` or, read-only, `image/REFERENCE`."""
    mount: str
    local: str | None = None
    read_only: bool = False


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how the Jobs of one model run."""

    accelerator: str = "gpu"
    """`gpu[:N]`, `mig:<profile>`, `dra:<profile>`, `dra-gpu` or `cpu`; see epp_batch.manifests.accelerators."""
    cpu: str | None = None
    memory: str | None = None
    queue: str | None = None
    """LocalQueue; the run's when None."""
    priority_class: str | None = None
    """WorkloadPriorityClass."""
    model_path: str | None = None
    """Folder of the CTranslate2 model as the worker sees it."""


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What every Job of a run has in common."""

    namespace: str
    queue: str
    image: str
    volumes: tuple[Volume, ...] = ()
    placements: dict[str, Placement] = {}
    """By model; "*" for the models not named."""
    retries: int = 3
    """backoffLimit: how often a pod may fail for a reason that may pass; preemptions do not count."""
    max_exec_seconds: int | None = None
    """Kueue's hard cap over all admissions together."""
    ttl_seconds: int = 86_400
    service_account: str | None = None
    run_as: str | None = None
    """`UID[:GID]` of the pods' processes, who own what they write; the image's own when None."""
    node_selector: dict[str, str] = {}

    def placement_for(self, model: str) -> Placement:
        return self.placements.get(model) or self.placements.get("*") or Placement()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run is to do; the content of `run.json`. `cluster` is None for `transcribe`, which runs here."""

    name: str
    output: str
    """Absolute path of the output folder, here."""
    options: TranscriptionOptions
    units: tuple[Unit, ...]
    cluster: ClusterOptions | None = None
    created: float = 0.0
    """Wall seconds since 1970."""
    fetch_model: bool = False
    """Workers may download a model that they do not have."""
    max_seconds: float | None = None
    """Wall seconds for one recording; None for no limit."""
    version: Literal[1] = 1

    def list_tasks(self) -> list[Task]:
        """All tasks, in order of submission."""
        return [task for unit in self.units for task in unit.tasks]


class WorkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told: `EPP_BATCH_ORDER` in a pod's environment, a line of JSON for a local one.

    Sources and folders are as the worker sees them.
    """

    run: str
    unit: str
    output: str
    options: TranscriptionOptions
    tasks: tuple[Task, ...]
    model_path: str | None = None
    fetch_model: bool = False
    max_seconds: float | None = None
    """Wall seconds for one recording; None for no limit."""
    threads: int = 0
    """CPU threads; 0 takes the cores that the container may use."""


WORK_ORDER_VARIABLE = "EPP_BATCH_ORDER"
