"""The parts of bench/cost that judge: reading wrk, holding numbers against budgets, writing them down."""

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


def test_wrk_is_read_in_its_units() -> None:
    load = parse_wrk_report(WRK)
    assert (load.requests, load.seconds) == (62550, 10.01)
    assert load.p50 == pytest.approx(0.00238)
    assert load.p99 == pytest.approx(1.05)


@pytest.mark.parametrize(
    "line", ["  Non-2xx or 3xx responses: 3", "  Socket errors: connect 0, read 0, write 0, timeout 2"]
)
def test_failed_requests_are_no_measurement(line: str) -> None:
    with pytest.raises(BenchError, match=line.strip()[:10]):
        parse_wrk_report(f"{WRK}{line}\n")


def test_another_report_is_refused() -> None:
    with pytest.raises(BenchError, match="cannot read"):
        parse_wrk_report("nothing")


RESULTS = [
    MeasurementResult("short", "extproc", {"cpu_us_per_request": 100.0}),
    MeasurementResult("short", "extproc, grpcio", {"cpu_us_per_request": 400.0}),
    MeasurementResult("long", "extproc", {}, "Envoy ended with 1:\nlog"),
]


@pytest.mark.parametrize(
    ("limit", "value", "kept"),
    [
        (Budget("short", "extproc", "cpu_us_per_request", max=120), 100.0, True),
        (Budget("short", "extproc", "cpu_us_per_request", max=99), 100.0, False),
        (Budget("short", "extproc", "cpu_us_per_request", min=101), 100.0, False),
        (Budget("short", "extproc", "cpu_us_per_request", max=0.3, ratio_to="extproc, grpcio"), 0.25, True),
        (Budget("short", "extproc", "cpu_us_per_request", max=0.3, ratio_to="missing"), None, False),
        (Budget("long", "extproc", "cpu_us_per_request", max=3000), None, False),
    ],
)
def test_a_budget_is_kept_only_by_a_number(limit: Budget, value: float | None, kept: bool) -> None:
    [verdict] = report.check_budgets([limit], RESULTS)
    assert verdict.value == value
    assert verdict.kept is kept


def test_budgets_of_scenarios_that_were_not_asked_for_do_not_count() -> None:
    assert report.check_budgets([Budget("idle", "native", "cores", max=1)], RESULTS) == []


def test_the_budgets_in_the_repository_name_runs_that_exist() -> None:
    limits = report.read_budgets(Path(__file__).parents[3] / "bench" / "limits.yaml")
    made = {(run.scenario, run.variant) for run in list_measurements(quick=True, transports=("native", "grpcio"))}
    assert {(limit.scenario, limit.variant) for limit in limits} <= made
    assert {(limit.scenario, limit.ratio_to) for limit in limits if limit.ratio_to} <= made
    assert all(limit.metric in report.METRIC_TITLES for limit in limits)


def test_the_report_shows_numbers_failures_and_missed_budgets() -> None:
    verdicts = report.check_budgets([Budget("short", "extproc", "cpu_us_per_request", max=99)], RESULTS)
    table = report.render_markdown(RESULTS, verdicts, "wrk")
    assert "| CPU us a request | extproc | extproc, grpcio |\n|---|---|---|\n| short | 100 | 400 |" in table
    assert "| short | extproc | CPU us a request 100 |" in table
    assert "| long | extproc | failed: Envoy ended with 1: |" in table
    assert "| short (extproc) CPU us a request | <= 99 | 100 | **missed** |" in table
    document = json.loads(report.encode_json(RESULTS, verdicts, "wrk"))
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


def test_messages_written_by_hand_are_ext_proc_s() -> None:
    head = ext_proc_pb2.ProcessingRequest.FromString(
        open_streams.encode_http_headers(2, {":path": "/v1", "x": "y" * 300})
    )
    assert [(item.key, item.raw_value) for item in head.request_headers.headers.headers] == [
        (":path", b"/v1"),
        ("x", b"y" * 300),
    ]
    assert head.protocol_config.request_body_mode == open_streams.FULL_DUPLEX_STREAMED
    body = ext_proc_pb2.ProcessingRequest.FromString(
        open_streams.encode_field(4, open_streams.encode_field(1, b"abc") + open_streams.encode_field(2, 1))
    )
    assert (body.request_body.body, body.request_body.end_of_stream) == (b"abc", True)


async def test_the_generator_talks_to_the_model_servers() -> None:
    port = find_free_port("127.0.1.1")
    script = fleet.FleetState(b"page 1\n", 3, 0.0, asyncio.get_running_loop())
    server = await asyncio.get_running_loop().create_server(lambda: fleet.FleetConnection(script), "127.0.1.1", port)
    load = await client.run_load(
        f"http://127.0.1.1:{port}/v1/completions", ['{"model": "m"}'], connections=2, seconds=0.05
    )
    server.close()
    assert load.requests == script.posts > 0


def test_processes_end_with_the_stage() -> None:
    with ProcessStack() as stage:
        child = stage.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
        assert child.rss_bytes() > 0
        assert child.cpu_seconds() >= 0
        folder = stage.folder
    assert not folder.exists()
    with pytest.raises((BenchError, OSError)):
        child.check_running()


def test_a_process_that_ends_early_says_why(tmp_path: Path) -> None:
    child = MeasuredProcess("picker", [sys.executable, "-c", "raise SystemExit('no such flag')"], tmp_path / "log", {})
    child._child.wait(10)
    with pytest.raises(BenchError, match="no such flag"):
        child.check_running()
