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
from bench.routing.report import Figures
from epp.config import presets

BENCH = Path(__file__).parents[1]
TRACE = BENCH.parents[1] / "shared" / "data" / "traces" / "mooncake_conversation.jsonl"

Job = tuple[str, int, Path, str, str]
"""Workload, seed, trace, arm, configuration text."""


def arguments(argv: list[str] | None) -> argparse.Namespace:
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


def run(job: Job) -> Figures:
    """One arm on one workload."""
    name, seed, trace, arm, config = job
    workload = workloads.make(name, seed, trace)
    return report.figures(Replay(workload, arm, config, seed).run(), workload.slo)


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    names = [name for name in given.only.split(",") if name] or list(workloads.NAMES)
    if unknown := set(names) - set(workloads.NAMES):
        print(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(workloads.NAMES)}", file=sys.stderr)
        return 2
    if workloads.TRACE in names and not given.trace.exists():
        print(f"{workloads.TRACE} is left out: {workloads.TraceMissing(given.trace)}", file=sys.stderr)
        names.remove(workloads.TRACE)
    configs = {arms.ROUND_ROBIN: "", arms.RANDOM: "", **{name: presets.text(name) for name in presets.names()}}
    configs |= {path.stem: path.read_text(encoding="utf-8") for path in given.config}
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    jobs: list[Job] = [
        (name, seed, given.trace, arm, config) for name in names for arm, config in configs.items() for seed in seeds
    ]
    with ProcessPoolExecutor(given.jobs) as pool:
        outcomes = pool.map(run, jobs)
        found = {}
        for name in names:
            about = workloads.make(name, given.first_seed, given.trace)
            found[name] = {arm: report.mean([next(outcomes) for _ in seeds]) for arm in configs}
            table = report.markdown(found[name]) if given.markdown else report.plain(found[name])
            print(f"\n{name}: {about.about}; {about.servers} servers, SLO {about.slo:g} s\n\n{table}", flush=True)
    given.out.parent.mkdir(exist_ok=True)
    written = {name: {arm: asdict(f) for arm, f in table.items()} for name, table in found.items()}
    given.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
