"""Transcripts as files: txt, srt, vtt, tsv and json, in the form of openai-whisper's writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from epp_batch.spec import Format
from epp_batch.worker.segments import Segment


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What was said; the content of `<stem>.json`."""

    text: str
    segments: list[Segment]
    language: str
    duration: float
    """Audio seconds. Ours: openai-whisper does not say."""


def timestamp(seconds: float, *, hours: bool, decimal: str) -> str:
    """`[HH:]MM:SS.mmm`; hours are left out below one unless `hours` asks for them."""
    milliseconds = round(seconds * 1000)
    whole, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    head = f"{hour:02d}:" if hours or hour else ""
    return f"{head}{minute:02d}:{second:02d}{decimal}{fraction:03d}"


def txt(transcript: Transcript) -> str:
    """One line a segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def srt(transcript: Transcript) -> str:
    """SubRip: numbered from 1, always with hours, decimal comma."""
    return "".join(
        f"{number}\n{_span(segment, hours=True, decimal=',')}\n{_cue(segment)}\n\n"
        for number, segment in enumerate(transcript.segments, 1)
    )


def vtt(transcript: Transcript) -> str:
    """WebVTT: hours only where there are any."""
    cues = (f"{_span(segment, hours=False, decimal='.')}\n{_cue(segment)}\n\n" for segment in transcript.segments)
    return "WEBVTT\n\n" + "".join(cues)


def tsv(transcript: Transcript) -> str:
    """Start and end in whole milliseconds, and the text; no quoting, so tabs become blanks."""
    rows = (
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{_plain(segment)}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def json(transcript: Transcript) -> str:
    """Everything that is known, words included."""
    return msgspec.json.encode(transcript).decode()


WRITERS: dict[Format, Callable[[Transcript], str]] = {"txt": txt, "srt": srt, "vtt": vtt, "tsv": tsv, "json": json}


def render(transcript: Transcript, formats: Sequence[Format]) -> dict[str, bytes]:
    """Suffix -> content of each file wanted."""
    return {suffix: WRITERS[suffix](transcript).encode() for suffix in formats}


def _span(segment: Segment, *, hours: bool, decimal: str) -> str:
    start = timestamp(segment.start, hours=hours, decimal=decimal)
    return f"{start} --> {timestamp(segment.end, hours=hours, decimal=decimal)}"


def _cue(segment: Segment) -> str:
    """An arrow in the text would end the cue."""
    return segment.text.strip().replace("-->", "->")


def _plain(segment: Segment) -> str:
    return segment.text.strip().replace("\t", " ")
