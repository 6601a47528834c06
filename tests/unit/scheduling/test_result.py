"""What `epp explain` shows of a verdict."""

from __future__ import annotations

import json
from random import Random

from epp.api import Profile
from epp.scheduling.profile_run import run
from epp.scheduling.result import Verdict, explain, table
from epp.testing import endpoints, request
from scorers.filters.roles import DecodeRole, EncodeRole
from scorers.kv_cache_utilization import KvCacheUtilization
from scorers.pickers.max_score import MaxScore
from scorers.queue import QueueDepth


def decided(*, encode: bool = False) -> Verdict:
    role = "llm-d.ai/role"
    pool = endpoints(
        waiting=[4, 0, 2], kv_usage=[0.5, 0.25, 0.5], labels=[{role: "decode"}, {role: "prefill"}, {role: "decode"}]
    )
    profile = Profile(
        "default",
        filters=[("roles", EncodeRole() if encode else DecodeRole())],
        scorers=[("queue", 2, QueueDepth()), ("kv", 1, KvCacheUtilization())],
        picker=("best", MaxScore()),
    )
    return run(profile, request(), pool, Random(1), lambda *_: None)


def test_a_decision_as_data() -> None:
    data = explain(decided())
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


def test_a_decision_as_a_table() -> None:
    assert table(decided()).splitlines() == [
        "profile default: 3 candidates, picked e2",
        "   endpoint  queue x2  kv x1  total  filtered by",
        "*  e2        1.000     0.500  2.500",
        "   e0        0.000     0.500  0.500",
        "   e1                                roles",
    ]


def test_a_decision_without_an_answer() -> None:
    data = explain(decided(encode=True))
    assert (data["emptied_by"], data["otherwise"], data["picked"]) == ("roles", "429 ResourceExhausted", [])
    assert table(decided(encode=True)).startswith(
        "profile default: 3 candidates, picked none (roles left nothing: 429 ResourceExhausted)"
    )
