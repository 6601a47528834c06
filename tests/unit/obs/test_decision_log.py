"""Which decisions the log keeps, and what it writes at `--v 3`."""

from __future__ import annotations

import logging

import msgspec
import pytest

from epp.obs.decision_log import DecisionLog
from epp.obs.logs import VERBOSE
from tests.unit.obs.decisions import build_decision_record


def test_decisions_are_sampled_above_the_rate_limit_but_rejections_are_kept() -> None:
    decision_log = DecisionLog(limit=1000)
    for number in range(1000):  # 10,000 a second
        wall = 1_700_000_000.0 + number / 10_000
        decision_log.record(msgspec.structs.replace(build_decision_record(f"r-{number}"), wall_time=wall))
        if number == 500:
            decision_log.record(
                msgspec.structs.replace(build_decision_record("no", "BadRequest - why"), wall_time=wall)
            )
    assert decision_log.count == 1001
    kept = [rendered["request_id"] for rendered in reversed(decision_log.render_newest(1000))]
    burst = [f"r-{number}" for number in range(64)]
    assert kept[:64] == burst
    assert "no" in kept
    assert 15 <= len(kept) - 64 <= 25, "after a burst one in fifty"
    assert int(kept[-1].removeprefix("r-")) > 900


def test_a_wall_clock_set_back_does_not_stop_the_log() -> None:
    decision_log = DecisionLog(limit=1000)
    for wall in (1_700_000_000.0, 1_700_000_000.0 - 3600.0):
        for number in range(100):
            decision_log.record(msgspec.structs.replace(build_decision_record(f"{wall:.0f}-{number}"), wall_time=wall))
    kept = [rendered["request_id"] for rendered in decision_log.render_newest(1000)]
    assert 60 <= sum(name.startswith("1699996400-") for name in kept) <= 64


def test_a_decision_is_logged_when_verbose(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("epp.test.requests")
    with caplog.at_level(logging.INFO, log.name):
        DecisionLog(log=log).record(build_decision_record())
        assert not caplog.records
    with caplog.at_level(VERBOSE, log.name):
        DecisionLog(log=log).record(build_decision_record("r-9"))
    [record] = caplog.records
    assert vars(record)["x-request-id"] == "r-9"
    assert vars(record)["destination"] == "10.0.0.1:8001"
