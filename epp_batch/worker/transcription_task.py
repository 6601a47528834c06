"""One recording from its source to its transcript, through whatever an earlier attempt left."""

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
from epp_batch.worker.failures import Deadline, find_out_of_memory, raise_as_task_error
from epp_batch.worker.formats import Transcript
from epp_batch.worker.messages import ProgressSink, WorkerMessage
from epp_batch.worker.partial_file import AttemptRecord, BatchRecord, PartialFile, PlanRecord
from epp_batch.worker.whisper import LoadedWhisper, detect_speech

LOCK_POLL_SECONDS = 0.5
"""Seconds between two looks at a recording that another worker has."""
SEQUENTIAL_RECORD_SECONDS = 5.0
"""Wall seconds of segments that one line of the partial file gathers in sequence."""

ModelProvider = Callable[[Task], LoadedWhisper]
"""Gives the loaded model of a task; WorkError where there is none."""


class TranscriptionTask:
    """One task of an order."""

    def __init__(
        self, task: Task, order: WorkOrder, models: ModelProvider, clock: Clock, leash: Deadline, say: ProgressSink
    ) -> None:
        self.task, self.order, self.options = task, order, order.options
        self.source = task.recording.source
        self.key = task.key(order.options)
        self.folder = OutputFolder(order.output)
        self._models, self._clock, self._leash, self._say = models, clock, leash, say

    def run(self) -> TranscriptionResult:
        """The result, at once where the task is finished already. Raises WorkError."""
        with raise_as_task_error(TaskStage.WRITE, self.source):
            partial = self._open_partial_file()
            if partial is None:
                return self._reuse_finished_result()
        try:
            return self._transcribe(partial)
        except TaskError as error:
            if error.kind.permanent and not partial.progress.segments:
                partial.remove()
            raise
        finally:
            partial.close()

    def _open_partial_file(self) -> PartialFile | None:
        """The partial file for us alone; None when the task is finished, be it while we waited for another worker."""
        while True:
            if self.folder.find_finished_result(self.task, self.options) is not None:
                return None
            try:
                return PartialFile(self.folder.path(self.task.stem, "partial.jsonl"), self.key, self._clock)
            except BlockingIOError:
                self._leash.wait(LOCK_POLL_SECONDS, TaskStage.QUEUE)

    def _reuse_finished_result(self) -> TranscriptionResult:
        result = self.folder.find_finished_result(self.task, self.options)
        assert result is not None
        outputs.link_further_names(self.folder, self.task, result)
        return result

    def _transcribe(self, partial: PartialFile) -> TranscriptionResult:
        self._leash.check(TaskStage.QUEUE)
        started = self._clock.wall()
        samples, sha256, timings = self._decode_recording()
        self._leash.check(TaskStage.LOAD)
        begun = self._clock.now()
        whisper = self._models(self.task)
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
            raise TaskError(FailureKind.SILENT, TaskStage.TRANSCRIBE, self.source, "Whisper hears no words")
        with raise_as_task_error(TaskStage.WRITE, self.source):
            return self._write_outputs(partial, samples, whisper, attempt)

    def _decode_recording(self) -> tuple[Samples, str, dict[str, float]]:
        """The recording, decoded; the digest of its bytes; how long that took."""
        begun = self._clock.now()
        with (
            raise_as_task_error(TaskStage.DOWNLOAD, self.source),
            fetch.open_local_file(self.task.recording, self._leash) as path,
        ):
            fetched = self._clock.now()
            with raise_as_task_error(TaskStage.DECODE, self.source):
                audio.require_readable(path, self.source)
                sha256 = fetch.verify_digest(path, self.task.recording)
                samples = audio.decode_audio(path, self.source, lambda: self._leash.check(TaskStage.DECODE))
            return samples, sha256, {"download": fetched - begun, "decode": self._clock.now() - fetched}

    def _plan_windows(self, partial: PartialFile, samples: Samples, attempt: AttemptRecord) -> None:
        if partial.progress.plan is None:
            batched = self.options.vad and self.options.batch_size > 1
            begun = self._clock.now()
            windows = detect_speech(samples, lambda: self._leash.check(TaskStage.TRANSCRIBE)) if batched else None
            if windows == []:
                raise TaskError(FailureKind.SILENT, TaskStage.TRANSCRIBE, self.source, "the detector hears no speech")
            partial.append(PlanRecord(self.key, windows, self._clock.now() - begun))
        partial.append(attempt)

    def _transcribe_batched(self, partial: PartialFile, samples: Samples, whisper: LoadedWhisper) -> None:
        """All windows that are left, as many at once as asked for, or as memory allows."""
        progress = partial.progress
        assert progress.plan is not None
        windows = progress.plan.windows or []
        size = self.options.batch_size
        while progress.windows_done < len(windows):
            self._leash.check(TaskStage.TRANSCRIBE)
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
        """The rest of the recording after the last segment that is done, a few segments a line of the partial file."""
        progress = partial.progress
        seconds = len(samples) / SAMPLE_RATE
        said = " ".join(segment.text.strip() for segment in progress.segments[-20:])
        language = self.options.language or progress.language or None
        begun, pending = self._clock.now(), []
        if progress.audio_seconds >= seconds:
            return
        for segment, found in whisper.transcribe_sequentially(
            samples, progress.audio_seconds, self.options, language, said
        ):
            pending.append(segment)
            language = found
            spent = self._clock.now() - begun
            if spent >= SEQUENTIAL_RECORD_SECONDS or self._leash.expired:
                partial.append(BatchRecord(segment.end, spent, pending, language=language))
                begun, pending = self._clock.now(), []
                self._report_progress(partial, samples)
                self._leash.check(TaskStage.TRANSCRIBE)
        partial.append(BatchRecord(seconds, self._clock.now() - begun, pending, language=language or ""))
        self._report_progress(partial, samples)

    def _report_progress(self, partial: PartialFile, samples: Samples) -> None:
        self._say(
            WorkerMessage(
                stem=self.task.stem, progress=round(partial.progress.audio_seconds, 3), of=len(samples) / SAMPLE_RATE
            )
        )

    def _write_outputs(
        self, partial: PartialFile, samples: Samples, whisper: LoadedWhisper, attempt: AttemptRecord
    ) -> TranscriptionResult:
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
    """What the container was given; `cpu` where that is what ran."""
    return os.environ.get("NVIDIA_VISIBLE_DEVICES", "cuda") if whisper.device == "cuda" else "cpu"


def describe_versions(whisper: LoadedWhisper) -> str:
    """The worker, its library and the numbers it computed with."""
    library = importlib.metadata.version("faster-whisper")
    engine = importlib.metadata.version("ctranslate2")
    ours = importlib.metadata.version("endpoint-picker")
    return f"epp-batch {ours}, faster-whisper {library}, ctranslate2 {engine}, {whisper.device} {whisper.compute_type}"
