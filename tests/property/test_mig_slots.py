"""Slot maps: slices of one GPU never overlap, and find_first_fit returns the first start that fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epp_batch.planner.mig_slots import MIG_PROFILES, SLOTS_PER_GPU, MigProfile, SlotMap

GPUS = st.sampled_from(sorted(MIG_PROFILES))


def profiles(gpu: str) -> list[MigProfile]:
    return list(MIG_PROFILES[gpu].values())


@given(gpu=GPUS, actions=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_slices_do_not_overlap(gpu, actions):
    slot_map, held = SlotMap(), []
    for number, release in actions:
        if release and held:
            profile, start = held.pop(number % len(held))
            slot_map.release(profile, start)
            continue
        profile = profiles(gpu)[number % len(profiles(gpu))]
        start = slot_map.find_first_fit(profile)
        if start is not None:
            slot_map.occupy(profile, start)
            held.append((profile, start))
        slots = [slot for profile, start in held for slot in range(start, start + profile.size)]
        assert len(slots) == len(set(slots))
        assert max(slots, default=0) < SLOTS_PER_GPU
        assert slot_map.free_slots == SLOTS_PER_GPU - len(slots)
        assert slot_map.occupied == sum(1 << slot for slot in slots)


@given(gpu=GPUS, taken=st.integers(0, 255), number=st.integers(0, 5))
def test_find_first_fit_returns_the_first_free_start(gpu, taken, number):
    profile = profiles(gpu)[number % len(profiles(gpu))]
    free = [
        start for start in profile.starts if not any(taken >> slot & 1 for slot in range(start, start + profile.size))
    ]
    assert SlotMap(taken).find_first_fit(profile) == (free[0] if free else None)


@given(gpu=GPUS, order=st.lists(st.integers(0, 5), min_size=8, max_size=12))
def test_a_full_gpu_has_at_most_seven_compute_slices(gpu, order):
    slot_map, compute = SlotMap(), 0
    for number in order:
        profile = profiles(gpu)[number % len(profiles(gpu))]
        start = slot_map.find_first_fit(profile)
        if start is not None:
            slot_map.occupy(profile, start)
            compute += profile.compute_slices
    assert compute <= 7
