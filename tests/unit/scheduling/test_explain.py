"""Profile run results as plain data."""

from __future__ import annotations

import io
import json

from epp.cli.explain import print_decision
from epp.scheduling.explain import explain_result
from tests.unit.scheduling.conftest import run_roles_profile


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


def test_a_result_without_an_endpoint() -> None:
    data = explain_result(run_roles_profile(encode=True))
    assert (data["emptied_by"], data["otherwise"], data["picked"]) == ("roles", "429 ResourceExhausted", [])
    decision = {"time": 0.0, "request_id": "r1", "model": "m", "seconds": 0.0, "profiles": [data]}
    out = io.StringIO()
    print_decision({**decision, "refusal": "ResourceExhausted"}, out)
    assert "profile default, picker best: roles left nothing, 429 ResourceExhausted" in out.getvalue()
