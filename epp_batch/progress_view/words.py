"""Text for durations, events, failures and statuses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from epp_batch.output_folder import TaskFailure
from epp_batch.progress_view.run_tracker import RecordingPhase, RunStatus
from epp_batch.timeline import TimelineEvent

_PHASE_ORDER: tuple[RecordingPhase, ...] = ("running", "admitted", "queued", "paused", "planned", "failed", "cancelled")


def format_duration(seconds: float) -> str:
    """`42 s`, `7 min 05 s`, `2 h 13 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def format_job_count(count: int) -> str:
    """`1 Job`, `3 Jobs`."""
    return "1 Job" if count == 1 else f"{count} Jobs"


def format_failure(failure: TaskFailure) -> str:
    """`<source>: <stage>: <message>; <remedy>`."""
    text = f"{failure.source}: {failure.stage}: {failure.message}"
    return f"{text}; {failure.remedy}" if failure.remedy else text


def format_event(event: TimelineEvent, names: Mapping[str, str] = MappingProxyType({})) -> str:
    """`<unit>: <kind> on <place> (<detail>)`; a unit by its name in `names`, if it has one there."""
    place = f" on {event.place}" if event.place else ""
    detail = f" ({event.detail})" if event.detail else ""
    return f"{event.stem or names.get(event.unit, event.unit)}: {event.kind}{place}{detail}"


def format_counts(status: RunStatus) -> str:
    """`12 of 40 done, 8 running, 20 queued`; phases without recordings are left out."""
    parts = [f"{status.count('done')} of {status.recordings} done"]
    parts += [f"{status.count(name)} {name}" for name in _PHASE_ORDER if status.count(name)]
    if status.evicted:
        others = status.evicted - status.preempted
        parts.append(f"{status.preempted} preempted" + (f" and {others} evicted" if others else ""))
    if status.retried:
        parts.append(f"{status.retried} retried")
    return ", ".join(parts)


def format_audio(status: RunStatus) -> str:
    """`1 h 10 min of 9 h 40 min of audio, 31.0x real time, 16 min left`."""
    done, total = format_duration(status.audio_done), format_duration(status.audio_total)
    parts = [f"{done} of {total}{' or more' if status.unknown_lengths else ''} of audio"]
    if status.speed is not None:
        parts.append(f"{status.speed:.1f}x real time")
    if status.eta is not None and not status.is_complete:
        parts.append(f"{format_duration(status.eta)} left")
    if status.position is not None:
        parts.append(f"next one is number {status.position} in its queue")
    return ", ".join(parts)


def format_status(status: RunStatus) -> str:
    """Counts and audio on one line."""
    return f"{format_counts(status)}; {format_audio(status)}"
