"""Summaries on their way, from events."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Literal

import msgspec

from epp_batch.timeline import TimelineEvent

SUMMARY_KINDS = ("summarizing", "first-token", "summarized", "unsummarized")


class SummaryHistory(msgspec.Struct, kw_only=True):
    """The summary of one transcript. Times as in events."""

    stem: str
    first_sent: float
    last_sent: float
    first_token: float | None = None
    ended: float | None = None
    ending: Literal["summarized", "unsummarized", "open"] = "open"


def build_summary_histories(events: Iterable[TimelineEvent], stems: Container[str]) -> list[SummaryHistory]:
    """The last one of each stem, in order of asking; a summary that was asked for anew begins anew."""
    found: dict[str, SummaryHistory] = {}
    for event in events:
        if event.kind not in SUMMARY_KINDS or event.stem not in stems:
            continue
        current = found.get(event.stem)
        if event.kind == "summarizing":
            if current is None or current.ended is not None:
                found[event.stem] = SummaryHistory(stem=event.stem, first_sent=event.at, last_sent=event.at)
            else:
                current.last_sent, current.first_token = max(event.at, current.last_sent), None
        elif current is not None and current.ended is None:
            _record_answer(current, event)
    return sorted(found.values(), key=lambda sending: sending.first_sent)


def _record_answer(sending: SummaryHistory, event: TimelineEvent) -> None:
    at = max(event.at, sending.first_token or sending.last_sent)
    if event.kind == "first-token":
        sending.first_token = sending.first_token or at
    elif event.kind in ("summarized", "unsummarized"):
        sending.ended = at
        sending.ending = "summarized" if event.kind == "summarized" else "unsummarized"
