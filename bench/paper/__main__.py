"""`python -m bench.paper`: repeats the experiments of arXiv 2602.04900, and adds configurations of ours.

python -m bench.paper                  in virtual time, one minute: tables, timelines, Gantt charts in bench/out/paper
python -m bench.paper --real           also on a real control plane at 20 times the speed, three minutes more
python -m bench.paper --real --docs    and writes docs/paper.md
python -m bench.paper --last --docs    the same with the timelines of the last real run
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
"""Compression of time; beyond it, the control plane's own delays would dominate."""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses and checks the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.paper", description="Repeats the paper's experiments.")
    parser.add_argument("--orders", type=int, default=1000, metavar="N", help="random native orders (default 1000)")
    parser.add_argument("--evaluations", type=int, default=4000, metavar="N", help="of each search (default 4000)")
    parser.add_argument("--real", action="store_true", help="also play the arms on a real control plane")
    parser.add_argument("--last", action="store_true", help="compare with the last real run, from DIR")
    parser.add_argument("--only", default="", metavar="NAMES", help="comma-separated arms for --real")
    parser.add_argument(
        "--scale", type=float, default=MAX_SCALE, metavar="N", help="compress time N times (at most 20)"
    )
    parser.add_argument("--docs", action="store_true", help="write docs/paper.md and its charts")
    parser.add_argument("--out", type=Path, default=BENCH / "out" / "paper", metavar="DIR")
    args = parser.parse_args(argv)
    if not 1 <= args.scale <= MAX_SCALE:
        parser.error(f"invalid --scale: expected 1 to {MAX_SCALE:g}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Runs the experiments; the exit code is 2 for unknown arms and for a missing real run."""
    args = parse_arguments(argv)
    names = [name for name in args.only.split(",") if name] or [arm.name for arm in ARMS if arm.runs_on_control_plane]
    if unknown := set(names) - {arm.name for arm in ARMS}:
        known = ", ".join(arm.name for arm in ARMS)
        print(f"unknown arm {', '.join(sorted(unknown))}; known are {known}", file=sys.stderr)
        return 2
    search = SearchOptions(evaluations=args.evaluations)
    paper = {arm.name: simulate_arm(arm, PAPER_SPEEDS, search) for arm in ARMS}
    batched = {arm.name: simulate_arm(arm, FASTER_WHISPER_SPEEDS, search) for arm in ARMS}
    native, fits = simulate_native_orders(args.orders), fit_ratios()
    parts = {
        "main": tables.build_main_table(paper, batched),
        "orders": tables.build_orders_table(native),
        "ratios": tables.build_ratios_table(fits),
    }
    real: dict[str, list[TimelineEvent]] = {}
    if args.real:
        from bench.paper import real as control_plane

        real = asyncio.run(
            control_plane.run_arms([paper[name] for name in names], args.scale, control_plane.print_stderr)
        )
    elif args.last:
        real = {name: read_events(args.out / f"{charts.file_slug(name)}-real.jsonl") for name in names}
        if missing := [name for name, events in real.items() if not events]:
            print(f"{args.out} has no real run of {', '.join(missing)}; run it with --real", file=sys.stderr)
            return 2
    if real:
        delayed = {name: delays.simulate_with_delays(paper[name], events) for name, events in real.items()}
        parts["real"] = tables.build_real_table(
            paper, delayed, {name: compute_timeline_stats(events) for name, events in real.items()}
        )
    print("\n\n".join(parts.values()))
    write_results(args.out, paper, real)
    if args.docs:
        document.write_page(BENCH.parent / "docs", paper, native, fits, parts, args.scale)
    return 0


def write_results(out: Path, paper: dict[str, ArmResult], real: dict[str, list[TimelineEvent]]) -> None:
    """Writes figures as JSON, real timelines and charts into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, TimelineStats]] = {
        "virtual": {name: result.stats for name, result in paper.items()},
        "real": {name: compute_timeline_stats(events) for name, events in real.items()},
    }
    (out / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    for name, result in paper.items():
        charts.write_chart(out / f"{charts.file_slug(name)}.svg", result)
    for name, events in real.items():
        lines = b"\n".join(msgspec.json.encode(event) for event in events)
        (out / f"{charts.file_slug(name)}-real.jsonl").write_bytes(lines + b"\n")


if __name__ == "__main__":
    sys.exit(main())
