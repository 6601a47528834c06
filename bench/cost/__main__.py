"""`python -m bench.cost`: measures CPU, latency and memory of the picker behind real Envoy, against bench/limits.yaml.

python -m bench.cost                      all scenarios, about six minutes
python -m bench.cost --quick              a few seconds each, about two and a half
python -m bench.cost --only short,idle
python -m bench.cost --epp-cmd '…'        another picker: it listens on 127.0.0.1:9002 in cleartext, for model
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
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description="CPU, latency and memory of the picker.")
    parser.add_argument("--quick", action="store_true", help="a few seconds per scenario")
    parser.add_argument("--only", default="", metavar="NAMES", help="comma-separated scenarios")
    parser.add_argument("--transport", action="append", choices=("native", "grpcio"), help="repeatable (default: both)")
    parser.add_argument("--epp-cmd", default="", metavar="COMMAND", help="measure this picker instead of ours")
    parser.add_argument("--out", type=Path, default=BENCH / "out" / "cost.json", help="file for the results as JSON")
    parser.add_argument("--limits", type=Path, default=BENCH / "limits.yaml")
    parser.add_argument(
        "--check", action=argparse.BooleanOptionalAction, default=True, help="exit with 1 if a budget is missed"
    )
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table in {PERFORMANCE_PAGE.name}")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit code: 1 if a budget is missed (with --check), 2 if a scenario could not be measured."""
    args = parse_arguments(argv)
    selected = {name for name in args.only.split(",") if name}
    results: list[MeasurementResult] = []
    for measurement in list_measurements(
        quick=args.quick, transports=args.transport or ("native", "grpcio"), command=args.epp_cmd
    ):
        if selected and measurement.scenario not in selected:
            continue
        print(f"{measurement.scenario}, {measurement.variant} …", file=sys.stderr, flush=True)
        result = run_measurement(measurement)
        results.append(result)
        values = ", ".join(f"{name} {report.format_figure(value)}" for name, value in result.numbers.items())
        print(f"    {values or result.error}", file=sys.stderr, flush=True)
    generator = "wrk" if shutil.which("wrk") else "bench.cost.client"
    budgets = [] if args.epp_cmd else report.read_budgets(args.limits)
    budget_results = report.check_budgets(budgets, results)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(report.encode_json(results, budget_results, generator))
    table = report.render_markdown(results, budget_results, generator)
    print(table)
    if args.write_docs:
        report.write_table(PERFORMANCE_PAGE, table)
    if any(result.error for result in results):
        return 2
    return 1 if args.check and not all(checked.kept for checked in budget_results) else 0


if __name__ == "__main__":
    sys.exit(main())
