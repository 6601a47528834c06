"""Gantt charts of simulated arms, by GPU and slot."""

from __future__ import annotations

from pathlib import Path

from bench.paper import jobs
from bench.paper.arms import Found
from epp_batch import report
from epp_batch.spec import Options, Run


def slug(name: str) -> str:
    """A file name."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def svg(found: Found, length: float | None = None) -> str:
    """The chart; `length` in seconds for two on one scale."""
    run = Run(
        name=found.arm.name,
        output="",
        options=Options(),
        units=tuple(jobs.units()),
        cluster=jobs.cluster(found.arm.accelerators),
    )
    return report.svg(report.build(run, found.events, {}, []), length=length, models=("medium", "large"))


def write(path: Path, found: Found, length: float | None = None) -> None:
    path.write_text(svg(found, length), encoding="utf-8")
