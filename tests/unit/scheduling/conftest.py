"""The result of a profile whose filter goes by roles."""

from __future__ import annotations

from random import Random

from epp.api import SchedulerProfile
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
