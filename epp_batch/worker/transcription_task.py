"""Transcribes one recording: download, decode, detect speech, decode with Whisper, write; resumes a partial file."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from collections.abc import Callable

from epp.clock import Clock
from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.output_folder import OutputFolder, TranscriptionResult
from epp_batch.spec import Task, WorkOrder
from epp_batch.worker import audio, fetch, outputs
from epp_batch.worker.audio import SAMPLE_RATE, Samples
from epp_batch.worker.deadline import Deadline
from epp_batch.worker.failures import find_out_of_memory, raise_as_task_error
from epp_batch.worker.formats import Transcript
from epp_batch.worker.messages import ProgressSink, WorkerMessage
from epp_batch.worker.partial_file import AttemptRecord, BatchRecord, PartialFile, PlanRecord
from epp_batch.worker.whisper import LoadedWhisper, detect_speech

LOCK_POLL_SECONDS = 0.5
"""Interval between attempts to lock a recording that another worker is transcribing."""
SEQUENTIAL_RECORD_SECONDS = 5.0
"""Wall-clock seconds of sequential transcription that one record of the partial file collects."""

ModelProvider = Callable[[Task], LoadedWhisper]
"""Returns the loaded model of a task; raises TaskError if it cannot be loaded."""


class TranscriptionTask:
    """One task of a work order, run once."""

    def __init__(
        self,
        task: Task,
        order: WorkOrder,
        get_model: ModelProvider,
        clock: Clock,
        deadline: Deadline,
        on_progress: ProgressSink,
    ) -> None:
        self.task, self.order, self.options = task, order, order.options
        self.source = task.recording.source
        self.key = task.key(order.options)
        self.folder = OutputFolder(order.output)
        self._get_model, self._clock, self._deadline, self._on_progress = get_model, clock, deadline, on_progress

    def run(self) -> TranscriptionResult:
        """Transcribes the recording and returns its result; immediately if it is finished already. Raises TaskError."""
        with raise_as_task_error(TaskStage.WRITE, self.source):
            partial = self._open_partial_file()
            if isinstance(partial, TranscriptionResult):
                outputs.link_further_names(self.folder, self.task, partial)
                return partial
        try:
            return self._transcribe(partial)
        except TaskError as error:
            if error.kind.permanent and not partial.progress.segments:
                partial.remove()
            raise
        finally:
            partial.close()

    def _open_partial_file(self) -> PartialFile | TranscriptionResult:
        """The locked partial file, or the result if the task is finished. Waits while another worker holds the lock."""
        while True:
            result = self.folder.find_finished_result(self.task, self.options)
            if result is not None:
                return result
            try:
                return PartialFile(self.folder.path(self.task.stem, "partial.jsonl"), self.key, self._clock)
            except BlockingIOError:
                self._deadline.wait(LOCK_POLL_SECONDS, TaskStage.QUEUE)

    def _transcribe(self, partial: PartialFile) -> TranscriptionResult:
        self._deadline.check(TaskStage.QUEUE)
        started = self._clock.wall()
        samples, sha256, timings = self._decode_recording()
        self._deadline.check(TaskStage.LOAD)
        begun = self._clock.now()
        whisper = self._get_model(self.task)
        timings["load"] = self._clock.now() - begun
        attempt = AttemptRecord(started, partial.progress.audio_seconds, sha256, timings)
        with raise_as_task_error(TaskStage.TRANSCRIBE, self.source):
            self._plan_windows(partial, samples, attempt)
            self._report_progress(partial, samples)
            if partial.progress.plan is not None and partial.progress.plan.windows is not None:
                self._transcribe_batched(partial, samples, whisper)
            else:
                self._transcribe_sequentially(partial, samples, whisper)
        if not partial.progress.segments:
            raise TaskError(FailureKind.SILENT, TaskStage.TRANSCRIBE, self.source, "Whisper found no words")
        with raise_as_task_error(TaskStage.WRITE, self.source):
            return self._write_outputs(partial, samples, whisper, attempt)

    def _decode_recording(self) -> tuple[Samples, str, dict[str, float]]:
        """Downloads and decodes the recording: samples, SHA-256 of the content, and seconds by step."""
        begun = self._clock.now()
        with (
            raise_as_task_error(TaskStage.DOWNLOAD, self.source),
            fetch.open_local_file(self.task.recording, self._deadline) as path,
        ):
            fetched = self._clock.now()
            with raise_as_task_error(TaskStage.DECODE, self.source):
                audio.require_readable(path, self.source)
                sha256 = fetch.verify_digest(path, self.task.recording)
                samples = audio.decode_audio(path, self.source, lambda: self._deadline.check(TaskStage.DECODE))
            return samples, sha256, {"download": fetched - begun, "decode": self._clock.now() - fetched}

    def _plan_windows(self, partial: PartialFile, samples: Samples, attempt: AttemptRecord) -> None:
        """Writes the plan, unless an earlier attempt has, and the record of this attempt."""
        if partial.progress.plan is None:
            batched = self.options.vad and self.options.batch_size > 1
            begun = self._clock.now()
            windows = detect_speech(samples, lambda: self._deadline.check(TaskStage.TRANSCRIBE)) if batched else None
            if windows == []:
                message = "voice activity detection found no speech"
                raise TaskError(FailureKind.SILENT, TaskStage.TRANSCRIBE, self.source, message)
            partial.append(PlanRecord(self.key, windows, self._clock.now() - begun))
        partial.append(attempt)

    def _transcribe_batched(self, partial: PartialFile, samples: Samples, whisper: LoadedWhisper) -> None:
        """Transcribes the remaining windows with faster-whisper's batched pipeline.

        Halves the batch if memory is short.
        """
        progress = partial.progress
        assert progress.plan is not None
        windows = progress.plan.windows or []
        size = self.options.batch_size
        while progress.windows_done < len(windows):
            self._deadline.check(TaskStage.TRANSCRIBE)
            batch = windows[progress.windows_done : progress.windows_done + size]
            begun = self._clock.now()
            language = self.options.language or progress.language or None
            try:
                segments, language = whisper.transcribe_batch(samples, batch, self.options, language)
            except RuntimeError as error:
                if size == 1 or not find_out_of_memory(error):
                    raise
                size = (size + 1) // 2
                continue
            spent = self._clock.now() - begun
            partial.append(BatchRecord(batch[-1].end, spent, segments, progress.windows_done + len(batch), language))
            self._report_progress(partial, samples)

    def _transcribe_sequentially(self, partial: PartialFile, samples: Samples, whisper: LoadedWhisper) -> None:
        """Transcribes the rest with faster-whisper's sequential pipeline; a record holds several segments."""
        progress = partial.progress
        seconds = len(samples) / SAMPLE_RATE
        # More than the prompt can hold: faster-whisper keeps its last 223 tokens, half of Whisper's text context.
        previous_text = " ".join(segment.text.strip() for segment in progress.segments[-20:])
        language = self.options.language or progress.language or None
        begun, pending = self._clock.now(), []
        if progress.audio_seconds >= seconds:
            return
        for segment, detected in whisper.transcribe_sequentially(
            samples, progress.audio_seconds, self.options, language, previous_text
        ):
            pending.append(segment)
            language = detected
            spent = self._clock.now() - begun
            if spent >= SEQUENTIAL_RECORD_SECONDS or self._deadline.expired:
                partial.append(BatchRecord(segment.end, spent, pending, language=language))
                begun, pending = self._clock.now(), []
                self._report_progress(partial, samples)
                self._deadline.check(TaskStage.TRANSCRIBE)
        partial.append(BatchRecord(seconds, self._clock.now() - begun, pending, language=language or ""))
        self._report_progress(partial, samples)

    def _report_progress(self, partial: PartialFile, samples: Samples) -> None:
        self._on_progress(
            WorkerMessage(
                stem=self.task.stem, progress=round(partial.progress.audio_seconds, 3), of=len(samples) / SAMPLE_RATE
            )
        )

    def _write_outputs(
        self, partial: PartialFile, samples: Samples, whisper: LoadedWhisper, attempt: AttemptRecord
    ) -> TranscriptionResult:
        """Writes the transcript, then its result, then removes the partial file; each step may be repeated."""
        progress = partial.progress
        seconds = len(samples) / SAMPLE_RATE
        transcript = Transcript(
            text="".join(segment.text for segment in progress.segments),
            segments=progress.segments,
            language=progress.language,
            duration=seconds,
        )
        begun = self._clock.now()
        files = outputs.write_transcript(self.folder, self.task, transcript, self.options.formats)
        timings = progress.timings | {"write": self._clock.now() - begun}
        result = TranscriptionResult(
            key=self.key,
            source=self.source,
            sha256=attempt.sha256,
            model=self.task.model,
            options=self.options,
            audio_seconds=seconds,
            language=progress.language,
            segments=len(progress.segments),
            words=sum(len(segment.text.split()) for segment in progress.segments),
            files=files,
            started=attempt.started,
            finished=self._clock.wall(),
            timings=timings,
            resumed_at=attempt.resumed_at,
            attempts=progress.attempts,
            rtf=timings.get("transcribe", 0.0) / seconds,
            host=os.environ.get("NODE_NAME") or platform.node(),
            devices=describe_devices(whisper),
            worker=describe_versions(whisper),
            peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
        outputs.write_result(self.folder, self.task, result)
        if result.attempts > 1:
            outputs.remove_stale_temporaries(self.folder, self.task.stem)
        partial.remove()
        return result


def describe_devices(whisper: LoadedWhisper) -> str:
    """The devices that the container runtime assigned; `cpu` if the model runs on the CPU."""
    return os.environ.get("NVIDIA_VISIBLE_DEVICES", "cuda") if whisper.device == "cuda" else "cpu"


def describe_versions(whisper: LoadedWhisper) -> str:
    """Versions of the worker, faster-whisper and CTranslate2, with device and compute type."""
    packages = ("endpoint-picker", "faster-whisper", "ctranslate2")
    ours, faster_whisper, ctranslate2 = map(importlib.metadata.version, packages)
    libraries = f"faster-whisper {faster_whisper}, ctranslate2 {ctranslate2}"
    return f"epp-batch {ours}, {libraries}, {whisper.device} {whisper.compute_type}"
