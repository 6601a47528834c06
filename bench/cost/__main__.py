"""`python -m bench.cost`: CPU, latency and memory of the picker behind real Envoy, against bench/limits.yaml.

python -m bench.cost                      all scenarios, about six minutes
python -m bench.cost --quick              a few seconds each, about two and a half
python -m bench.cost --only short,idle
python -m bench.cost --epp-cmd '…'        another picker: it listens on 127.0.0.1:9002 in clear, and finds its model
                                          servers at 127.0.1.1:8000, 127.0.1.2:8000, …
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from bench.cost import report
from bench.cost.scenarios import MeasurementResult, list_measurements, run_measurement

BENCH = Path(__file__).parents[1]
PERFORMANCE_PAGE = BENCH.parent / "docs" / "performance.md"


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description="What the picker costs.")
    parser.add_argument("--quick", action="store_true", help="a few seconds a scenario, for a first look")
    parser.add_argument("--only", default="", metavar="NAMES", help="comma list of scenarios")
    parser.add_argument(
        "--transport", action="append", choices=("native", "grpcio"), help="repeatable (default: both, in one run)"
    )
    parser.add_argument("--epp-cmd", default="", metavar="COMMAND", help="measure this picker instead of ours")
    parser.add_argument("--out", type=Path, default=BENCH / "out" / "cost.json", help="where the JSON goes")
    parser.add_argument("--limits", type=Path, default=BENCH / "limits.yaml")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True, help="fail on a missed budget")
    parser.add_argument("--write-docs", action="store_true", help=f"put the table into {PERFORMANCE_PAGE.name}")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """1 if a budget is missed (with --check), 2 if a scenario could not be measured."""
    args = parse_arguments(argv)
    wanted = {name for name in args.only.split(",") if name}
    results: list[MeasurementResult] = []
    for run in list_measurements(
        quick=args.quick, transports=args.transport or ("native", "grpcio"), command=args.epp_cmd
    ):
        if wanted and run.scenario not in wanted:
            continue
        print(f"{run.scenario}, {run.variant} …", file=sys.stderr, flush=True)
        result = run_measurement(run)
        results.append(result)
        shown = ", ".join(f"{name} {report.format_figure(value)}" for name, value in result.numbers.items())
        print(f"    {shown or result.error}", file=sys.stderr, flush=True)
    generator = "wrk" if shutil.which("wrk") else "bench.cost.client"
    limits = [] if args.epp_cmd else report.read_budgets(args.limits)
    verdicts = report.check_budgets(limits, results)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(report.encode_json(results, verdicts, generator))
    table = report.render_markdown(results, verdicts, generator)
    print(table)
    if args.write_docs:
        report.write_table(PERFORMANCE_PAGE, table)
    if any(result.error for result in results):
        return 2
    return 1 if args.check and not all(verdict.kept for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
