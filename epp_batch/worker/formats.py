"""Transcripts as files: txt, srt, vtt, tsv and json, in the form of openai-whisper's writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from epp_batch.spec import TranscriptFormat
from epp_batch.worker.segments import Segment


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What was said; the content of `<stem>.json`."""

    text: str
    segments: list[Segment]
    language: str
    duration: float
    """Audio seconds. Ours: openai-whisper does not say."""


def format_timestamp(seconds: float, *, hours: bool, decimal: str) -> str:
    """`[HH:]MM:SS.mmm`; hours are left out below one unless `hours` asks for them."""
    milliseconds = round(seconds * 1000)
    whole, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    head = f"{hour:02d}:" if hours or hour else ""
    return f"{head}{minute:02d}:{second:02d}{decimal}{fraction:03d}"


def format_txt(transcript: Transcript) -> str:
    """One line a segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def format_srt(transcript: Transcript) -> str:
    """SubRip: numbered from 1, always with hours, decimal comma."""
    return "".join(
        f"{number}\n{_format_cue_timing(segment, hours=True, decimal=',')}\n{_format_cue_text(segment)}\n\n"
        for number, segment in enumerate(transcript.segments, 1)
    )


def format_vtt(transcript: Transcript) -> str:
    """WebVTT: hours only where there are any."""
    cues = (
        f"{_format_cue_timing(segment, hours=False, decimal='.')}\n{_format_cue_text(segment)}\n\n"
        for segment in transcript.segments
    )
    return "WEBVTT\n\n" + "".join(cues)


def format_tsv(transcript: Transcript) -> str:
    """Start and end in whole milliseconds, and the text; no quoting, so tabs become blanks."""
    rows = (
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{_format_tsv_text(segment)}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def format_json(transcript: Transcript) -> str:
    """Everything that is known, words included."""
    return msgspec.json.encode(transcript).decode()


FORMATTERS: dict[TranscriptFormat, Callable[[Transcript], str]] = {
    "txt": format_txt,
    "srt": format_srt,
    "vtt": format_vtt,
    "tsv": format_tsv,
    "json": format_json,
}


def render_transcript(transcript: Transcript, formats: Sequence[TranscriptFormat]) -> dict[str, bytes]:
    """Suffix -> content of each file wanted."""
    return {suffix: FORMATTERS[suffix](transcript).encode() for suffix in formats}


def _format_cue_timing(segment: Segment, *, hours: bool, decimal: str) -> str:
    start = format_timestamp(segment.start, hours=hours, decimal=decimal)
    return f"{start} --> {format_timestamp(segment.end, hours=hours, decimal=decimal)}"


def _format_cue_text(segment: Segment) -> str:
    """An arrow in the text would end the cue."""
    return segment.text.strip().replace("-->", "->")


def _format_tsv_text(segment: Segment) -> str:
    return segment.text.strip().replace("\t", " ")
