"""Summaries on their way, from events."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Literal

import msgspec

from epp_batch.timeline import Event

SUMMARY_KINDS = ("summarizing", "first-token", "summarized", "unsummarized")


class Sending(msgspec.Struct, kw_only=True):
    """The summary of one transcript. Times as in events."""

    stem: str
    sent: float
    asked: float
    first_token: float | None = None
    ended: float | None = None
    ending: Literal["summarized", "unsummarized", "open"] = "open"


def sendings(events: Iterable[Event], stems: Container[str]) -> list[Sending]:
    """The last one of each stem, in order of asking; a summary that was asked for anew begins anew."""
    found: dict[str, Sending] = {}
    for event in events:
        if event.kind not in SUMMARY_KINDS or event.stem not in stems:
            continue
        current = found.get(event.stem)
        if event.kind == "summarizing":
            if current is None or current.ended is not None:
                found[event.stem] = Sending(stem=event.stem, sent=event.at, asked=event.at)
            else:
                current.asked, current.first_token = max(event.at, current.asked), None
        elif current is not None and current.ended is None:
            _answered(current, event)
    return sorted(found.values(), key=lambda sending: sending.sent)


def _answered(sending: Sending, event: Event) -> None:
    at = max(event.at, sending.first_token or sending.asked)
    if event.kind == "first-token":
        sending.first_token = sending.first_token or at
    elif event.kind in ("summarized", "unsummarized"):
        sending.ended = at
        sending.ending = "summarized" if event.kind == "summarized" else "unsummarized"
