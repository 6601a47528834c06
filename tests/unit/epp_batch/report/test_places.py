"""Places of events."""

from __future__ import annotations

import pytest

from epp_batch.report import places


@pytest.mark.parametrize(
    ("place", "device", "slots"),
    [
        ("n/gpu-3/4-7", "n/gpu-3", (4, 7)), ("n/gpu-3/4", "n/gpu-3", (4, 4)), ("n/gpu-3", "n/gpu-3", None),
        ("n", "n", None), ("n/gpu-3/7-4", "n/gpu-3/7-4", None), ("", "", None),
        ("local/worker-2", "local/worker-2", None),
    ],
)  # fmt: skip
def test_places_are_parsed(place, device, slots):
    assert places.parse_place(place) == (device, slots)


def test_natural_sort_key_compares_numbers():
    assert sorted(["n/gpu-10", "n/gpu-9", "m/gpu-0", "10", ""], key=places.natural_sort_key) == [
        "", "10", "m/gpu-0", "n/gpu-9", "n/gpu-10"
    ]  # fmt: skip
