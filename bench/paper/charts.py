"""Gantt charts of simulated arms, by GPU and slot."""

from __future__ import annotations

from pathlib import Path

from bench.paper import jobs
from bench.paper.arms import ArmResult
from epp_batch.report import build_report
from epp_batch.report.render import render_svg
from epp_batch.spec import Run, TranscriptionOptions


def file_slug(name: str) -> str:
    """The name in lower case, words joined by dashes."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def render_chart(result: ArmResult, length: float | None = None) -> str:
    """The chart of an arm; `length` in seconds puts several on one scale."""
    run = Run(
        name=result.arm.name,
        output="",
        options=TranscriptionOptions(),
        units=tuple(jobs.load_units()),
        cluster=jobs.build_cluster(result.arm.accelerators),
    )
    return render_svg(build_report(run, result.events, {}, []), length=length, models=("medium", "large"))


def write_chart(path: Path, result: ArmResult, length: float | None = None) -> None:
    """Writes the chart of an arm into a file."""
    path.write_text(render_chart(result, length), encoding="utf-8")
