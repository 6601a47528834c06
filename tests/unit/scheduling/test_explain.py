"""Profile run results as plain data, and as the tables of `epp explain`."""

from __future__ import annotations

import io
import json
from random import Random

from epp.api import SchedulerProfile
from epp.cli.explain import build_candidate_table, print_decision
from epp.scheduling.explain import explain_result
from epp.scheduling.profile_run import run_profile
from epp.scheduling.result import ProfileRunResult
from epp.testing import build_endpoints, build_request
from scorers.filters.roles import DecodeFilter, EncodeFilter
from scorers.kv_cache_utilization import KvCacheUtilizationScorer
from scorers.pickers.max_score import MaxScorePicker
from scorers.queue import QueueScorer


def run_roles_profile(*, encode: bool = False) -> ProfileRunResult:
    role = "llm-d.ai/role"
    endpoints = build_endpoints(
        waiting=[4, 0, 2], kv_usage=[0.5, 0.25, 0.5], labels=[{role: "decode"}, {role: "prefill"}, {role: "decode"}]
    )
    profile = SchedulerProfile(
        "default",
        filters=[("roles", EncodeFilter() if encode else DecodeFilter())],
        scorers=[("queue", 2, QueueScorer()), ("kv", 1, KvCacheUtilizationScorer())],
        picker=("best", MaxScorePicker()),
    )
    return run_profile(profile, build_request(), endpoints, Random(1), lambda *_: None)


def test_a_result_as_data() -> None:
    data = explain_result(run_roles_profile())
    assert data == {
        "profile": "default",
        "candidates": [
            {"name": "e0", "target": "10.0.0.1:8000"},
            {"name": "e1", "target": "10.0.0.2:8000"},
            {"name": "e2", "target": "10.0.0.3:8000"},
        ],
        "filters": [{"name": "roles", "type": "decode-filter", "kept": 2, "dropped": ["e1"]}],
        "scorers": [
            {"name": "queue", "type": "queue-scorer", "weight": 2, "scores": {"e0": 0, "e2": 1}},
            {"name": "kv", "type": "kv-cache-utilization-scorer", "weight": 1, "scores": {"e0": 0.5, "e2": 0.5}},
        ],
        "totals": {"e0": 0.5, "e2": 2.5},
        "picker": "best",
        "picked": ["e2"],
        "emptied_by": None,
        "otherwise": None,
    }
    assert json.loads(json.dumps(data)) == data


def test_a_result_as_a_table() -> None:
    assert build_candidate_table(explain_result(run_roles_profile())) == (
        ["", "endpoint", "queue x2", "kv x1", "total", "dropped by"],
        [
            ["*", "e2", "1.000", "0.500", "2.500", ""],
            ["", "e0", "0.000", "0.500", "0.500", ""],
            ["", "e1", "", "", "", "roles"],
        ],
    )


def test_a_result_without_an_endpoint() -> None:
    data = explain_result(run_roles_profile(encode=True))
    assert (data["emptied_by"], data["otherwise"], data["picked"]) == ("roles", "429 ResourceExhausted", [])
    decision = {"time": 0.0, "request_id": "r1", "model": "m", "seconds": 0.0, "profiles": [data]}
    out = io.StringIO()
    print_decision({**decision, "refusal": "ResourceExhausted"}, out)
    assert "profile default, picker best: roles left nothing, 429 ResourceExhausted" in out.getvalue()
