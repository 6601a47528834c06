"""`python -m bench.paper`: the experiments of arXiv 2602.04900, and ours beside them.

python -m bench.paper                  in virtual time, a minute: tables, timelines and Gantt charts in bench/out/paper
python -m bench.paper --real           and on a real control plane at 20 times the speed: three minutes more
python -m bench.paper --real --docs    and docs/paper.md anew
python -m bench.paper --last --docs    the same from the timelines of the last real run
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec

from bench.paper import charts, delays, document, tables
from bench.paper.arms import ARMS, ArmResult, simulate_arm
from bench.paper.orders import fit_ratios, simulate_native_orders
from epp_batch.planner import FASTER_WHISPER_SPEEDS, PAPER_SPEEDS, SearchOptions, TimelineStats, compute_timeline_stats
from epp_batch.timeline import TimelineEvent, read_events

BENCH = Path(__file__).parents[1]
MAX_SCALE = 20.0
"""Compression beyond which the control plane's own time would be what is measured."""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.paper", description="The paper's experiments again.")
    parser.add_argument("--orders", type=int, default=1000, metavar="N", help="random native orders (default 1000)")
    parser.add_argument("--evaluations", type=int, default=4000, metavar="N", help="of each search (default 4000)")
    parser.add_argument("--real", action="store_true", help="play the arms on a real control plane too")
    parser.add_argument("--last", action="store_true", help="compare with the real run that lies in DIR")
    parser.add_argument("--only", default="", metavar="NAMES", help="comma list of arms for --real")
    parser.add_argument(
        "--scale", type=float, default=MAX_SCALE, metavar="N", help="so many times the speed (20 at most)"
    )
    parser.add_argument("--docs", action="store_true", help="write docs/paper.md and its charts")
    parser.add_argument("--out", type=Path, default=BENCH / "out" / "paper", metavar="DIR")
    given = parser.parse_args(argv)
    if not 1 <= given.scale <= MAX_SCALE:
        parser.error(f"--scale is from 1 to {MAX_SCALE:g}")
    return given


def main(argv: list[str] | None = None) -> int:
    given = parse_arguments(argv)
    names = [name for name in given.only.split(",") if name] or [arm.name for arm in ARMS if arm.runs_on_control_plane]
    if unknown := set(names) - {arm.name for arm in ARMS}:
        print(f"no arm {', '.join(sorted(unknown))}; there are {', '.join(arm.name for arm in ARMS)}", file=sys.stderr)
        return 2
    search = SearchOptions(evaluations=given.evaluations)
    paper = {arm.name: simulate_arm(arm, PAPER_SPEEDS, search) for arm in ARMS}
    batched = {arm.name: simulate_arm(arm, FASTER_WHISPER_SPEEDS, search) for arm in ARMS}
    native, fits = simulate_native_orders(given.orders), fit_ratios()
    parts = {
        "main": tables.build_main_table(paper, batched),
        "orders": tables.build_orders_table(native),
        "ratios": tables.build_ratios_table(fits),
    }
    real: dict[str, list[TimelineEvent]] = {}
    if given.real:
        from bench.paper import real as played

        real = asyncio.run(played.run_arms([paper[name] for name in names], given.scale, played.print_stderr))
    elif given.last:
        real = {name: read_events(given.out / f"{charts.file_slug(name)}-real.jsonl") for name in names}
        if missing := [name for name, events in real.items() if not events]:
            print(f"{given.out} has no real run of {', '.join(missing)}; play it with --real", file=sys.stderr)
            return 2
    if real:
        delayed = {name: delays.simulate_with_delays(paper[name], events) for name, events in real.items()}
        parts["real"] = tables.build_real_table(
            paper, delayed, {name: compute_timeline_stats(events) for name, events in real.items()}
        )
    print("\n\n".join(parts.values()))
    write_results(given.out, paper, real)
    if given.docs:
        document.write_page(BENCH.parent / "docs", paper, native, fits, parts, given.scale)
    return 0


def write_results(out: Path, paper: dict[str, ArmResult], real: dict[str, list[TimelineEvent]]) -> None:
    """Figures as JSON, timelines and charts."""
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, TimelineStats]] = {
        "virtual": {name: found.stats for name, found in paper.items()},
        "real": {name: compute_timeline_stats(events) for name, events in real.items()},
    }
    (out / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    for name, found in paper.items():
        charts.write_chart(out / f"{charts.file_slug(name)}.svg", found)
    for name, events in real.items():
        lines = b"\n".join(msgspec.json.encode(event) for event in events)
        (out / f"{charts.file_slug(name)}-real.jsonl").write_bytes(lines + b"\n")


if __name__ == "__main__":
    sys.exit(main())
