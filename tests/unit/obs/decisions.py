"""A decision over endpoints a, b, c with queues 4, 1, 0, of which c is filtered out."""

from __future__ import annotations

from random import Random

import numpy as np

from epp.api import (
    WAITING_REQUESTS,
    Endpoint,
    Endpoints,
    Filter,
    Mask,
    Picker,
    Request,
    SchedulerProfile,
    Scorer,
    Snapshot,
    StateDumper,
    prefer_low,
)
from epp.api.types import Positions, Scores, Values
from epp.requestcontrol.director import DecisionRecord
from epp.scheduling.profile_run import run_profile


class ExcludeC(Filter, type="not-c"):
    """Excludes endpoint c."""

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return np.array([endpoint.name != "c" for endpoint in endpoints])


class StubQueueScorer(Scorer, StateDumper, type="short"):
    """Prefers short queues."""

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return prefer_low(endpoints[WAITING_REQUESTS])

    def dump_state(self) -> dict[str, int]:
        return {"seen": 3}


class StubPicker(Picker, type="best"):
    """The best total."""

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return np.argsort(-totals)[:1]


class BrokenDumper(Scorer, StateDumper, type="broken"):
    """Cannot dump its state."""

    def dump_state(self) -> dict[str, int]:
        raise RuntimeError("no state")


PROFILE = SchedulerProfile(
    "default",
    filters=[("not-c", ExcludeC())],
    scorers=[("short", 2.0, StubQueueScorer())],
    picker=("best", StubPicker()),
)


def build_decision_record(request_id: str = "r-1", rejection: str = "") -> DecisionRecord:
    members = [Endpoint(name, "10.0.0.1", 8000 + i) for i, name in enumerate("abc")]
    snapshot = Snapshot({WAITING_REQUESTS: np.array([4, 1, 0], np.float32)}, members, np.arange(3, dtype=np.intp))
    endpoints = Endpoints(snapshot, snapshot.live_slots)
    result = run_profile(PROFILE, Request(), endpoints, Random(1), lambda plugin, kind: None)
    destination = "" if rejection else "10.0.0.1:8001"
    return DecisionRecord(
        1_700_000_000.0, request_id, "llama", "/v1/completions", 0.00005, {"default": result}, destination, rejection
    )
