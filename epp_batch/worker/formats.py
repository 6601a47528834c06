"""Formats transcripts as txt, srt, vtt, tsv and json, like openai-whisper's writers (`whisper.utils`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from epp_batch.spec import TranscriptFormat
from epp_batch.worker.segments import Segment


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """A transcript; the content of `<stem>.json`."""

    text: str
    segments: list[Segment]
    language: str
    duration: float
    """Audio seconds; an addition to openai-whisper's fields."""


def format_timestamp(seconds: float, *, hours: bool, decimal: str) -> str:
    """`[HH:]MM:SS.mmm`; hours are omitted below one hour unless `hours` is set. `decimal` is the decimal mark."""
    milliseconds = round(seconds * 1000)
    whole, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    prefix = f"{hour:02d}:" if hours or hour else ""
    return f"{prefix}{minute:02d}:{second:02d}{decimal}{fraction:03d}"


def format_txt(transcript: Transcript) -> str:
    """Plain text, one line per segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def format_srt(transcript: Transcript) -> str:
    """SubRip: cues numbered from 1, times with hours and decimal comma."""
    return "".join(
        f"{number}\n{_format_cue_timing(segment, hours=True, decimal=',')}\n{_format_cue_text(segment)}\n\n"
        for number, segment in enumerate(transcript.segments, 1)
    )


def format_vtt(transcript: Transcript) -> str:
    """WebVTT: times without hours below one hour, decimal point."""
    cues = (
        f"{_format_cue_timing(segment, hours=False, decimal='.')}\n{_format_cue_text(segment)}\n\n"
        for segment in transcript.segments
    )
    return "WEBVTT\n\n" + "".join(cues)


def format_tsv(transcript: Transcript) -> str:
    """Start and end in whole milliseconds, and the text. Not quoted: tabs in the text become spaces."""
    rows = (
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{_format_tsv_text(segment)}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def format_json(transcript: Transcript) -> str:
    """The whole transcript, with words."""
    return msgspec.json.encode(transcript).decode()


FORMATTERS: dict[TranscriptFormat, Callable[[Transcript], str]] = {
    "txt": format_txt,
    "srt": format_srt,
    "vtt": format_vtt,
    "tsv": format_tsv,
    "json": format_json,
}


def render_transcript(transcript: Transcript, formats: Sequence[TranscriptFormat]) -> dict[str, bytes]:
    """Content of the requested files by suffix."""
    return {suffix: FORMATTERS[suffix](transcript).encode() for suffix in formats}


def _format_cue_timing(segment: Segment, *, hours: bool, decimal: str) -> str:
    start = format_timestamp(segment.start, hours=hours, decimal=decimal)
    return f"{start} --> {format_timestamp(segment.end, hours=hours, decimal=decimal)}"


def _format_cue_text(segment: Segment) -> str:
    """The cue's text; `-->` would be read as a timing line."""
    return segment.text.strip().replace("-->", "->")


def _format_tsv_text(segment: Segment) -> str:
    return segment.text.strip().replace("\t", " ")
