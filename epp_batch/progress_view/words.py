"""Numbers and events as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from epp_batch.output_folder import Failure
from epp_batch.progress_view.run_tracker import Phase, Standing
from epp_batch.timeline import Event

_ORDER: tuple[Phase, ...] = ("running", "admitted", "queued", "paused", "planned", "failed", "cancelled")


def duration(seconds: float) -> str:
    """`42 s`, `7 min 05 s`, `2 h 13 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def jobs(count: int) -> str:
    """`1 Job`, `3 Jobs`."""
    return "1 Job" if count == 1 else f"{count} Jobs"


def line(failure: Failure) -> str:
    """`<source>: <stage>: <message>; <remedy>`."""
    text = f"{failure.source}: {failure.stage}: {failure.message}"
    return f"{text}; {failure.remedy}" if failure.remedy else text


def event_line(event: Event, names: Mapping[str, str] = MappingProxyType({})) -> str:
    """One event on one line; a unit by its name in `names` if it has one."""
    place = f" on {event.place}" if event.place else ""
    detail = f" ({event.detail})" if event.detail else ""
    return f"{event.stem or names.get(event.unit, event.unit)}: {event.kind}{place}{detail}"


def counts(state: Standing) -> str:
    """`12 of 40 done, 8 running, 20 queued`; what is zero is left out."""
    parts = [f"{state.count('done')} of {state.recordings} done"]
    parts += [f"{state.count(name)} {name}" for name in _ORDER if state.count(name)]
    if state.evicted:
        others = state.evicted - state.preempted
        parts.append(f"{state.preempted} preempted" + (f" and {others} evicted" if others else ""))
    if state.retried:
        parts.append(f"{state.retried} retried")
    return ", ".join(parts)


def audio(state: Standing) -> str:
    """`1 h 10 min of 9 h 40 min of audio, 31.0x real time, 16 min left`."""
    done, total = duration(state.audio_done), duration(state.audio_total)
    parts = [f"{done} of {total}{' or more' if state.unknown_lengths else ''} of audio"]
    if state.speed is not None:
        parts.append(f"{state.speed:.1f}x real time")
    if state.eta is not None and not state.over:
        parts.append(f"{duration(state.eta)} left")
    if state.position is not None:
        parts.append(f"next one is number {state.position} in its queue")
    return ", ".join(parts)


def summary(state: Standing) -> str:
    """A run on one line."""
    return f"{counts(state)}; {audio(state)}"
