"""`python -m bench.routing`: configurations against each other on the same requests, in virtual time.

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

from bench.routing import arms, report, workloads
from bench.routing.replay import Replay
from bench.routing.report import ReplaySummary
from epp.config import presets

BENCH = Path(__file__).parents[1]
TRACE = BENCH.parents[1] / "shared" / "data" / "traces" / "mooncake_conversation.jsonl"

RunSpec = tuple[str, int, Path, str, str]
"""Workload, seed, trace, arm, configuration text."""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description="Which configuration answers sooner.")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"comma list of {', '.join(workloads.NAMES)}")
    parser.add_argument("--config", type=Path, action="append", default=[], metavar="FILE", help="one more arm")
    parser.add_argument("--seeds", type=int, default=1, help="workloads of each kind; figures are means over them")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--trace", type=Path, default=TRACE, help="Mooncake's conversation trace")
    parser.add_argument("--markdown", action="store_true", help="tables for docs/routing.md")
    parser.add_argument("--out", type=Path, default=BENCH / "out" / "routing.json", help="where the JSON goes")
    return parser.parse_args(argv)


def run_replay(job: RunSpec) -> ReplaySummary:
    """One arm on one workload."""
    name, seed, trace, arm, config = job
    workload = workloads.build_workload(name, seed, trace)
    return report.summarize_replay(Replay(workload, arm, config, seed).run(), workload.ttft_slo)


def main(argv: list[str] | None = None) -> int:
    given = parse_arguments(argv)
    names = [name for name in given.only.split(",") if name] or list(workloads.NAMES)
    if unknown := set(names) - set(workloads.NAMES):
        print(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(workloads.NAMES)}", file=sys.stderr)
        return 2
    if workloads.TRACE in names and not given.trace.exists():
        print(f"{workloads.TRACE} is left out: {workloads.TraceMissing(given.trace)}", file=sys.stderr)
        names.remove(workloads.TRACE)
    configs = {
        arms.ROUND_ROBIN: "",
        arms.RANDOM: "",
        **{name: presets.read_preset(name) for name in presets.preset_names()},
    }
    configs |= {path.stem: path.read_text(encoding="utf-8") for path in given.config}
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    jobs: list[RunSpec] = [
        (name, seed, given.trace, arm, config) for name in names for arm, config in configs.items() for seed in seeds
    ]
    with ProcessPoolExecutor(given.jobs) as pool:
        outcomes = pool.map(run_replay, jobs)
        found = {}
        for name in names:
            about = workloads.build_workload(name, given.first_seed, given.trace)
            found[name] = {arm: report.average_summaries([next(outcomes) for _ in seeds]) for arm in configs}
            table = (
                report.format_markdown_table(found[name]) if given.markdown else report.format_text_table(found[name])
            )
            print(
                f"\n{name}: {about.description}; {about.servers} servers, SLO {about.ttft_slo:g} s\n\n{table}",
                flush=True,
            )
    given.out.parent.mkdir(exist_ok=True)
    written = {name: {arm: asdict(f) for arm, f in table.items()} for name, table in found.items()}
    given.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
