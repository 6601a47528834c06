"""View for terminals: a table that is redrawn below the lines of events and failures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from epp_batch.output_folder import TaskFailure
from epp_batch.progress_view import words
from epp_batch.progress_view.plain import print_line
from epp_batch.progress_view.run_tracker import RECORDING_PHASES, RunningUnit, RunStatus
from epp_batch.timeline import TimelineEvent

MAX_RUNNING_ROWS = 12
"""Rows of running units; of more only the number is shown."""
_STYLES = {"done": "green", "failed": "red", "running": "cyan", "paused": "yellow", "cancelled": "dim"}
_PRINTED_KINDS = ("evicted", "retried", "cancelled")


class LiveTable:
    """Counts, progress bar, speed and running units (rich.live)."""

    def __init__(self, out: TextIO, errors: TextIO, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self._console = Console(file=out, highlight=False)
        self._errors, self._names = errors, names
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    def on_event(self, event: TimelineEvent) -> None:
        if event.kind in _PRINTED_KINDS:
            self._console.print(Text(words.format_event(event, self._names), style="yellow"))

    def on_progress(self, unit: str, audio_seconds: float) -> None:
        """Shown with the next status."""

    def on_failure(self, failure: TaskFailure) -> None:
        if self._errors.isatty():
            self._console.print(Text(words.format_failure(failure), style="red"), soft_wrap=True)
        else:
            print_line(self._errors, words.format_failure(failure))

    def on_status(self, status: RunStatus) -> None:
        self._live.update(render_status(status), refresh=True)

    def close(self) -> None:
        self._live.stop()


def render_status(status: RunStatus) -> Group:
    """The table of one status."""
    parts: list[RenderableType] = [_render_phases(status), _render_bar(status), Text(words.format_audio(status))]
    if status.running:
        parts.append(_render_running(status))
    parts += [Text(trouble, style="yellow") for trouble in status.troubles]
    return Group(*parts)


def _render_phases(status: RunStatus) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [
        phase
        for phase in RECORDING_PHASES
        if status.count(phase) or phase in ("queued", "admitted", "running", "done", "failed")
    ]
    for phase in shown:
        table.add_column(phase, justify="right", style=_STYLES.get(phase, ""))
    for name in ("preempted", "evicted", "retried"):
        table.add_column(name, justify="right")
    table.add_row(
        *(str(status.count(phase)) for phase in shown), str(status.preempted), str(status.evicted), str(status.retried)
    )
    return table


def _render_bar(status: RunStatus) -> Table:
    line = Table.grid()  # a ProgressBar alone prints no line end
    line.add_row(_build_progress_bar(status))
    return line


def _build_progress_bar(status: RunStatus) -> ProgressBar:
    if status.unknown_lengths or not status.audio_total:
        return ProgressBar(total=max(1, status.recordings), completed=status.count("done"), width=60)
    return ProgressBar(total=status.audio_total, completed=status.audio_done, width=60)


def _render_running(status: RunStatus) -> Table:
    table = Table("running", "on", "since", "audio", box=None, pad_edge=False, header_style="bold")
    for unit in sorted(status.running, key=lambda unit: unit.since)[:MAX_RUNNING_ROWS]:
        table.add_row(
            Text(unit.stem), Text(unit.place), words.format_duration(status.at - unit.since), _format_unit_audio(unit)
        )
    if len(status.running) > MAX_RUNNING_ROWS:
        table.add_row(f"and {len(status.running) - MAX_RUNNING_ROWS} more", "", "", "")
    return table


def _format_unit_audio(unit: RunningUnit) -> str:
    done = words.format_duration(unit.audio_done) if unit.audio_done else "-"
    return f"{done} of {words.format_duration(unit.audio_total)}" if unit.audio_total is not None else done
