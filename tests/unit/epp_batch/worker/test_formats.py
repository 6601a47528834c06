"""Transcript formats, equal to the output of openai-whisper's writers character by character."""

from __future__ import annotations

import json

from epp_batch.spec import FORMATS
from epp_batch.worker.formats import Transcript, format_timestamp, render_transcript
from epp_batch.worker.segments import Segment, Word

WORDS = [Word(0.0, 1.5, " One", 0.9), Word(1.5, 2.0, " arrow", 0.8)]


def segment(number, start, end, text, words=None):
    return Segment(number, round(start * 100), start, end, text, [50364, 1], 0.0, -0.25, 1.1, 0.01, words)


SEGMENTS = [segment(0, 0.0, 2.0, " One --> arrow", WORDS), segment(1, 3661.0015, 3662.9996, " tab\there ")]
TRANSCRIPT = Transcript(text=" One --> arrow tab\there ", segments=SEGMENTS, language="en", duration=3700.0)


def render(suffix):
    return render_transcript(TRANSCRIPT, [suffix])[suffix].decode()


def test_txt():
    assert render("txt") == "One --> arrow\ntab\there\n"


def test_srt():
    assert render("srt") == (
        "1\n00:00:00,000 --> 00:00:02,000\nOne -> arrow\n\n2\n01:01:01,002 --> 01:01:03,000\ntab\there\n\n"
    )


def test_vtt():
    assert render("vtt") == (
        "WEBVTT\n\n00:00.000 --> 00:02.000\nOne -> arrow\n\n01:01:01.002 --> 01:01:03.000\ntab\there\n\n"
    )


def test_tsv():
    assert render("tsv") == "start\tend\ttext\n0\t2000\tOne --> arrow\n3661002\t3663000\ttab here\n"


def test_json_has_the_fields_of_openai_whisper_in_its_order():
    document = json.loads(render("json"))
    assert list(document)[:3] == ["text", "segments", "language"]
    assert document["duration"] == 3700.0
    first, second = document["segments"]
    assert list(first) == [
        "id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio",
        "no_speech_prob", "words",
    ]  # fmt: skip
    assert first["words"][0] == {"start": 0.0, "end": 1.5, "word": " One", "probability": 0.9}
    assert second["words"] is None


def test_only_requested_formats_are_rendered():
    assert list(render_transcript(TRANSCRIPT, ["vtt", "txt"])) == ["vtt", "txt"]
    assert set(render_transcript(TRANSCRIPT, FORMATS)) == set(FORMATS)


def test_non_latin_text():
    text = "你好 мир"
    transcript = Transcript(text=text, segments=[segment(0, 0, 1, text)], language="zh", duration=1.0)
    assert render_transcript(transcript, ["txt"])["txt"] == f"{text}\n".encode()


def test_timestamp_rounding_carries_over():
    assert format_timestamp(59.9996, hours=False, decimal=".") == "01:00.000"
    assert format_timestamp(3599.9999, hours=True, decimal=",") == "01:00:00,000"
