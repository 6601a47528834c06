"""`python -m bench.routing`: routing policies compared on the same requests, in virtual time.

python -m bench.routing                                   the presets, all workloads, some minutes
python -m bench.routing --only hot,bursts --seeds 3
python -m bench.routing --config mine.yaml --config bench/routing/candidates/token-load.yaml
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bench.routing import policies, report, workloads
from bench.routing.replay import Replay
from bench.routing.report import ReplaySummary
from epp.config import presets

BENCH = Path(__file__).parents[1]
TRACE = BENCH.parents[1] / "shared" / "data" / "traces" / "mooncake_conversation.jsonl"

RunSpec = tuple[str, int, Path, str, str]
"""Workload, seed, trace, policy, configuration text."""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.routing", description="Compares routing policies on simulated servers."
    )
    parser.add_argument("--only", default="", metavar="NAMES", help=f"comma list of {', '.join(workloads.NAMES)}")
    parser.add_argument(
        "--config", type=Path, action="append", default=[], metavar="FILE", help="one more policy: this configuration"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each workload; results are means over them")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="replays at a time, one core each")
    parser.add_argument("--trace", type=Path, default=TRACE, help="Mooncake's conversation trace")
    parser.add_argument("--markdown", action="store_true", help="tables for docs/routing.md")
    parser.add_argument("--out", type=Path, default=BENCH / "out" / "routing.json", help="file for the results as JSON")
    return parser.parse_args(argv)


def run_replay(run: RunSpec) -> ReplaySummary:
    """One workload under one policy."""
    name, seed, trace, policy, config = run
    workload = workloads.build_workload(name, seed, trace)
    return report.summarize_replay(Replay(workload, policy, config, seed).run(), workload.ttft_slo)


def main(argv: list[str] | None = None) -> int:
    """The command: runs all replays, prints a table for each workload and writes the results as JSON."""
    arguments = parse_arguments(argv)
    names = [name for name in arguments.only.split(",") if name] or list(workloads.NAMES)
    if unknown := set(names) - set(workloads.NAMES):
        print(f"unknown workload {', '.join(sorted(unknown))}: expected {', '.join(workloads.NAMES)}", file=sys.stderr)
        return 2
    if workloads.TRACE in names and not arguments.trace.exists():
        print(f"{workloads.TRACE} is skipped: {workloads.TraceMissing(arguments.trace)}", file=sys.stderr)
        names.remove(workloads.TRACE)
    configs = {
        policies.ROUND_ROBIN: "",
        policies.RANDOM: "",
        **{name: presets.read_preset(name) for name in presets.preset_names()},
    }
    configs |= {path.stem: path.read_text(encoding="utf-8") for path in arguments.config}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    runs: list[RunSpec] = [
        (name, seed, arguments.trace, policy, config)
        for name in names
        for policy, config in configs.items()
        for seed in seeds
    ]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        replays = pool.map(run_replay, runs)
        summaries = {}
        for name in names:
            workload = workloads.build_workload(name, arguments.first_seed, arguments.trace)
            summaries[name] = {policy: report.average_summaries([next(replays) for _ in seeds]) for policy in configs}
            table = (
                report.format_markdown_table(summaries[name])
                if arguments.markdown
                else report.format_text_table(summaries[name])
            )
            print(
                f"\n{name}: {workload.description}; {workload.servers} servers, SLO {workload.ttft_slo:g} s\n\n{table}",
                flush=True,
            )
    arguments.out.parent.mkdir(exist_ok=True)
    written = {
        name: {policy: asdict(summary) for policy, summary in table.items()} for name, table in summaries.items()
    }
    arguments.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
