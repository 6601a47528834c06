"""One recording from its source to its transcript, through whatever an earlier attempt left."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from collections.abc import Callable

from epp.clock import Clock
from epp_batch.errors import Kind, Stage, WorkError
from epp_batch.output_folder import Folder, Result
from epp_batch.spec import Order, Task
from epp_batch.worker import audio, outputs, sources
from epp_batch.worker.audio import RATE, Samples
from epp_batch.worker.failures import Leash, at, out_of_memory
from epp_batch.worker.formats import Transcript
from epp_batch.worker.lines import Line, Say
from epp_batch.worker.partial import Attempt, Batch, Partial, Plan
from epp_batch.worker.whisper import Whisper, speech

LOCKED_PAUSE = 0.5
"""Seconds between two looks at a recording that another worker has."""
SEQUENCE_SECONDS = 5.0
"""Wall seconds of segments that one line of the partial file gathers in sequence."""

Models = Callable[[Task], Whisper]
"""Gives the loaded model of a task; WorkError where there is none."""


class Work:
    """One task of an order."""

    def __init__(self, task: Task, order: Order, models: Models, clock: Clock, leash: Leash, say: Say) -> None:
        self.task, self.order, self.options = task, order, order.options
        self.source = task.recording.source
        self.key = task.key(order.options)
        self.folder = Folder(order.output)
        self._models, self._clock, self._leash, self._say = models, clock, leash, say

    def do(self) -> Result:
        """The result, at once where the task is finished already. Raises WorkError."""
        with at(Stage.WRITE, self.source):
            partial = self._claim()
            if partial is None:
                return self._finished()
        try:
            return self._transcribe(partial)
        except WorkError as error:
            if error.kind.permanent and not partial.progress.segments:
                partial.remove()
            raise
        finally:
            partial.close()

    def _claim(self) -> Partial | None:
        """The partial file for us alone; None when the task is finished, be it while we waited for another worker."""
        while True:
            if self.folder.finished(self.task, self.options) is not None:
                return None
            try:
                return Partial(self.folder.path(self.task.stem, "partial.jsonl"), self.key, self._clock)
            except BlockingIOError:
                self._leash.wait(LOCKED_PAUSE, Stage.QUEUE)

    def _finished(self) -> Result:
        result = self.folder.finished(self.task, self.options)
        assert result is not None
        outputs.spread(self.folder, self.task, result)
        return result

    def _transcribe(self, partial: Partial) -> Result:
        self._leash.check(Stage.QUEUE)
        started = self._clock.wall()
        samples, sha256, timings = self._samples()
        self._leash.check(Stage.LOAD)
        begun = self._clock.now()
        whisper = self._models(self.task)
        timings["load"] = self._clock.now() - begun
        attempt = Attempt(started, partial.progress.at, sha256, timings)
        with at(Stage.TRANSCRIBE, self.source):
            self._plan(partial, samples, attempt)
            self._progress(partial, samples)
            if partial.progress.plan is not None and partial.progress.plan.windows is not None:
                self._batches(partial, samples, whisper)
            else:
                self._sequence(partial, samples, whisper)
        if not partial.progress.segments:
            raise WorkError(Kind.SILENT, Stage.TRANSCRIBE, self.source, "Whisper hears no words")
        with at(Stage.WRITE, self.source):
            return self._publish(partial, samples, whisper, attempt)

    def _samples(self) -> tuple[Samples, str, dict[str, float]]:
        """The recording, decoded; the digest of its bytes; how long that took."""
        begun = self._clock.now()
        with at(Stage.DOWNLOAD, self.source), sources.local(self.task.recording, self._leash) as path:
            fetched = self._clock.now()
            with at(Stage.DECODE, self.source):
                audio.readable(path, self.source)
                sha256 = sources.verify(path, self.task.recording)
                samples = audio.decode(path, self.source, lambda: self._leash.check(Stage.DECODE))
            return samples, sha256, {"download": fetched - begun, "decode": self._clock.now() - fetched}

    def _plan(self, partial: Partial, samples: Samples, attempt: Attempt) -> None:
        if partial.progress.plan is None:
            batched = self.options.vad and self.options.batch_size > 1
            begun = self._clock.now()
            windows = speech(samples, lambda: self._leash.check(Stage.TRANSCRIBE)) if batched else None
            if windows == []:
                raise WorkError(Kind.SILENT, Stage.TRANSCRIBE, self.source, "the detector hears no speech")
            partial.append(Plan(self.key, windows, self._clock.now() - begun))
        partial.append(attempt)

    def _batches(self, partial: Partial, samples: Samples, whisper: Whisper) -> None:
        """All windows that are left, as many at once as asked for, or as memory allows."""
        progress = partial.progress
        assert progress.plan is not None
        windows = progress.plan.windows or []
        size = self.options.batch_size
        while progress.windows < len(windows):
            self._leash.check(Stage.TRANSCRIBE)
            batch = windows[progress.windows : progress.windows + size]
            begun = self._clock.now()
            language = self.options.language or progress.language or None
            try:
                segments, language = whisper.batch(samples, batch, self.options, language)
            except RuntimeError as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size = (size + 1) // 2
                continue
            spent = self._clock.now() - begun
            partial.append(Batch(batch[-1].end, spent, segments, progress.windows + len(batch), language))
            self._progress(partial, samples)

    def _sequence(self, partial: Partial, samples: Samples, whisper: Whisper) -> None:
        """The rest of the recording after the last segment that is done, a few segments a line of the partial file."""
        progress = partial.progress
        seconds = len(samples) / RATE
        said = " ".join(segment.text.strip() for segment in progress.segments[-20:])
        language = self.options.language or progress.language or None
        begun, pending = self._clock.now(), []
        if progress.at >= seconds:
            return
        for segment, found in whisper.sequence(samples, progress.at, self.options, language, said):
            pending.append(segment)
            language = found
            spent = self._clock.now() - begun
            if spent >= SEQUENCE_SECONDS or self._leash.taut:
                partial.append(Batch(segment.end, spent, pending, language=language))
                begun, pending = self._clock.now(), []
                self._progress(partial, samples)
                self._leash.check(Stage.TRANSCRIBE)
        partial.append(Batch(seconds, self._clock.now() - begun, pending, language=language or ""))
        self._progress(partial, samples)

    def _progress(self, partial: Partial, samples: Samples) -> None:
        self._say(Line(stem=self.task.stem, progress=round(partial.progress.at, 3), of=len(samples) / RATE))

    def _publish(self, partial: Partial, samples: Samples, whisper: Whisper, attempt: Attempt) -> Result:
        progress = partial.progress
        seconds = len(samples) / RATE
        transcript = Transcript(
            text="".join(segment.text for segment in progress.segments),
            segments=progress.segments,
            language=progress.language,
            duration=seconds,
        )
        begun = self._clock.now()
        files = outputs.publish(self.folder, self.task, transcript, self.options.formats)
        timings = progress.timings | {"write": self._clock.now() - begun}
        result = Result(
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
            devices=devices(whisper),
            worker=versions(whisper),
            peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
        outputs.finish(self.folder, self.task, result)
        if result.attempts > 1:
            outputs.sweep(self.folder, self.task.stem)
        partial.remove()
        return result


def devices(whisper: Whisper) -> str:
    """What the container was given; `cpu` where that is what ran."""
    return os.environ.get("NVIDIA_VISIBLE_DEVICES", "cuda") if whisper.device == "cuda" else "cpu"


def versions(whisper: Whisper) -> str:
    """The worker, its library and the numbers it computed with."""
    library = importlib.metadata.version("faster-whisper")
    engine = importlib.metadata.version("ctranslate2")
    ours = importlib.metadata.version("endpoint-picker")
    return f"epp-batch {ours}, faster-whisper {library}, ctranslate2 {engine}, {whisper.device} {whisper.compute}"
