"""The generated workload of conversations."""

from __future__ import annotations

from random import Random

from epp.sim import tokens
from epp.sim.workload import WorkloadProfile, generate_conversations

PROFILE = WorkloadProfile(groups=6, conversations=24, turns=2, system_tokens=400)


def test_a_workload_is_determined_by_its_seed() -> None:
    first, same, other = (generate_conversations(PROFILE, Random(seed)) for seed in (1, 1, 2))
    assert first == same
    assert first != other
    assert [each.starts_at for each in first] == sorted(each.starts_at for each in first)
    assert {tokens.count_tokens(each.system.encode()) for each in first} == {400}
    assert len({each.system for each in first}) == len({each.group for each in first})
    assert all(len(each.questions) == len(each.pauses) == 2 for each in first)
