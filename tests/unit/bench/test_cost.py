"""bench/cost: parsing of wrk's report, budgets, report, load generator and processes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from bench.cost import client, fleet, open_streams, report
from bench.cost.load import build_bodies, parse_wrk_report
from bench.cost.processes import BenchError, MeasuredProcess, ProcessStack, find_free_port
from bench.cost.report import Budget
from bench.cost.scenarios import MeasurementResult, list_measurements
from epp.pb import ext_proc_pb2

WRK = """\
Running 10s test @ http://127.0.0.1:8081/v1/chat/completions
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.55ms    1.01ms  14.22ms   90.30%
  Latency Distribution
     50%    2.38ms
     75%    2.80ms
     90%    3.42ms
     99%    1.05s
  62550 requests in 10.01s, 20.34MB read
Requests/sec:   6254.80
"""


def test_the_report_of_wrk_is_parsed_with_its_units() -> None:
    load = parse_wrk_report(WRK)
    assert (load.requests, load.seconds) == (62550, 10.01)
    assert load.p50 == pytest.approx(0.00238)
    assert load.p99 == pytest.approx(1.05)


@pytest.mark.parametrize(
    "line", ["  Non-2xx or 3xx responses: 3", "  Socket errors: connect 0, read 0, write 0, timeout 2"]
)
def test_failed_requests_are_an_error(line: str) -> None:
    with pytest.raises(BenchError, match=line.strip()[:10]):
        parse_wrk_report(f"{WRK}{line}\n")


def test_an_unknown_report_is_an_error() -> None:
    with pytest.raises(BenchError, match="cannot read"):
        parse_wrk_report("nothing")


RESULTS = [
    MeasurementResult("short", "extproc", {"cpu_us_per_request": 100.0}),
    MeasurementResult("short", "extproc, grpcio", {"cpu_us_per_request": 400.0}),
    MeasurementResult("long", "extproc", {}, "Envoy ended with 1:\nlog"),
]


@pytest.mark.parametrize(
    ("budget", "value", "kept"),
    [
        (Budget("short", "extproc", "cpu_us_per_request", max=120), 100.0, True),
        (Budget("short", "extproc", "cpu_us_per_request", max=99), 100.0, False),
        (Budget("short", "extproc", "cpu_us_per_request", min=101), 100.0, False),
        (Budget("short", "extproc", "cpu_us_per_request", max=0.3, ratio_to="extproc, grpcio"), 0.25, True),
        (Budget("short", "extproc", "cpu_us_per_request", max=0.3, ratio_to="missing"), None, False),
        (Budget("long", "extproc", "cpu_us_per_request", max=3000), None, False),
    ],
)
def test_a_budget_is_kept_only_by_a_measured_value(budget: Budget, value: float | None, kept: bool) -> None:
    [checked] = report.check_budgets([budget], RESULTS)
    assert checked.value == value
    assert checked.kept is kept


def test_budgets_of_scenarios_without_results_are_skipped() -> None:
    assert report.check_budgets([Budget("idle", "native", "cores", max=1)], RESULTS) == []


def test_the_budgets_in_the_repository_name_existing_measurements() -> None:
    budgets = report.read_budgets(Path(__file__).parents[3] / "bench" / "limits.yaml")
    existing = {(run.scenario, run.variant) for run in list_measurements(quick=True, transports=("native", "grpcio"))}
    assert {(budget.scenario, budget.variant) for budget in budgets} <= existing
    assert {(budget.scenario, budget.ratio_to) for budget in budgets if budget.ratio_to} <= existing
    assert all(budget.metric in report.METRIC_TITLES for budget in budgets)


def test_the_report_shows_values_failures_and_missed_budgets() -> None:
    budget_results = report.check_budgets([Budget("short", "extproc", "cpu_us_per_request", max=99)], RESULTS)
    table = report.render_markdown(RESULTS, budget_results, "wrk")
    assert "| CPU us/request | extproc | extproc, grpcio |\n|---|---|---|\n| short | 100 | 400 |" in table
    assert "| short | extproc | CPU us/request 100 |" in table
    assert "| long | extproc | failed: Envoy ended with 1: |" in table
    assert "| short (extproc) CPU us/request | <= 99 | 100 | **missed** |" in table
    document = json.loads(report.encode_json(RESULTS, budget_results, "wrk"))
    assert document["limits"][0]["kept"] is False
    assert document["results"][0]["numbers"] == {"cpu_us_per_request": 100.0}


def test_the_table_replaces_the_one_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    report.write_table(page, "first\n")
    page.write_text(f"# Mine\n{page.read_text()}\nafter\n")
    report.write_table(page, "second\n")
    text = page.read_text()
    assert text.startswith("# Mine\n")
    assert text.endswith("after\n")
    assert "second" in text
    assert "first" not in text


def test_prompts_share_their_first_half_only() -> None:
    one, other = build_bodies(4096, 2)
    assert 3600 < len(one) < 4200
    assert json.loads(one)["stream"] is True
    assert one[:1900] == other[:1900]
    assert one[2300:] != other[2300:]


def test_hand_encoded_messages_are_valid_ext_proc_messages() -> None:
    headers = ext_proc_pb2.ProcessingRequest.FromString(
        open_streams.encode_http_headers(2, {":path": "/v1", "x": "y" * 300})
    )
    assert [(item.key, item.raw_value) for item in headers.request_headers.headers.headers] == [
        (":path", b"/v1"),
        ("x", b"y" * 300),
    ]
    assert headers.protocol_config.request_body_mode == open_streams.FULL_DUPLEX_STREAMED
    body = ext_proc_pb2.ProcessingRequest.FromString(
        open_streams.encode_field(4, open_streams.encode_field(1, b"abc") + open_streams.encode_field(2, 1))
    )
    assert (body.request_body.body, body.request_body.end_of_stream) == (b"abc", True)


async def test_the_load_generator_with_the_model_servers() -> None:
    port = find_free_port("127.0.1.1")
    state = fleet.FleetState(b"page 1\n", 3, 0.0, asyncio.get_running_loop())
    server = await asyncio.get_running_loop().create_server(lambda: fleet.FleetConnection(state), "127.0.1.1", port)
    load = await client.run_load(
        f"http://127.0.1.1:{port}/v1/completions", ['{"model": "m"}'], connections=2, seconds=0.05
    )
    server.close()
    assert load.requests == state.posts > 0


def test_processes_are_stopped_with_their_stack() -> None:
    with ProcessStack() as stack:
        child = stack.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
        assert child.rss_bytes() > 0
        assert child.cpu_seconds() >= 0
        folder = stack.folder
    assert not folder.exists()
    with pytest.raises((BenchError, OSError)):
        child.check_running()


def test_an_exited_process_is_reported_with_its_output(tmp_path: Path) -> None:
    child = MeasuredProcess("picker", [sys.executable, "-c", "raise SystemExit('no such flag')"], tmp_path / "log", {})
    child._child.wait(10)
    with pytest.raises(BenchError, match="no such flag"):
        child.check_running()
