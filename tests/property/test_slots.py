"""Whatever is taken and given back, slices on one GPU never overlap, and a first fit is the first there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epp_batch.planner.mig_slots import MIG_PROFILES, SLOTS_PER_GPU, MigProfile, SlotMap

GPUS = st.sampled_from(sorted(MIG_PROFILES))


def profiles(gpu: str) -> list[MigProfile]:
    return list(MIG_PROFILES[gpu].values())


@given(gpu=GPUS, wishes=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_slices_never_overlap(gpu, wishes):
    there, held = SlotMap(), []
    for number, give_back in wishes:
        if give_back and held:
            profile, start = held.pop(number % len(held))
            there.release(profile, start)
            continue
        profile = profiles(gpu)[number % len(profiles(gpu))]
        start = there.find_first_fit(profile)
        if start is not None:
            there.occupy(profile, start)
            held.append((profile, start))
        slots = [slot for profile, start in held for slot in range(start, start + profile.size)]
        assert len(slots) == len(set(slots))
        assert max(slots, default=0) < SLOTS_PER_GPU
        assert there.free_slots == SLOTS_PER_GPU - len(slots)
        assert there.occupied == sum(1 << slot for slot in slots)


@given(gpu=GPUS, taken=st.integers(0, 255), number=st.integers(0, 5))
def test_the_first_start_that_fits_or_none_fits(gpu, taken, number):
    profile = profiles(gpu)[number % len(profiles(gpu))]
    free = [
        start for start in profile.starts if not any(taken >> slot & 1 for slot in range(start, start + profile.size))
    ]
    assert SlotMap(taken).find_first_fit(profile) == (free[0] if free else None)


@given(gpu=GPUS, order=st.lists(st.integers(0, 5), min_size=8, max_size=12))
def test_a_full_gpu_has_no_more_than_its_sevenths(gpu, order):
    there, compute = SlotMap(), 0
    for number in order:
        profile = profiles(gpu)[number % len(profiles(gpu))]
        start = there.find_first_fit(profile)
        if start is not None:
            there.occupy(profile, start)
            compute += profile.compute_slices
    assert compute <= 7
