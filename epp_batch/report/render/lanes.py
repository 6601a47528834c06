"""Who goes in which row of the chart: a group for each device, lanes within it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from epp_batch.report.model import AttemptSpan
from epp_batch.report.places import SLOTS_PER_GPU, natural_sort_key, parse_place


class LaneBar(NamedTuple):
    """A span and the lanes it covers, first and last."""

    span: AttemptSpan
    first_lane: int
    last_lane: int


class DeviceLanes(NamedTuple):
    """One device. Its lanes are the slots of a GPU, or as many as spans overlap."""

    device: str
    lane_count: int
    has_slots: bool
    bars: list[LaneBar]


def group_by_device(spans: Iterable[AttemptSpan], tolerance: float = 0.0) -> list[DeviceLanes]:
    """Devices in natural order. Overlaps of up to `tolerance` seconds are taken for clocks that disagree."""
    by_device: dict[str, list[AttemptSpan]] = {}
    for span in spans:
        by_device.setdefault(parse_place(span.place).device, []).append(span)
    return [
        _lay_out_slots(device, by_device[device]) or _pack_lanes(device, by_device[device], tolerance)
        for device in sorted(by_device, key=natural_sort_key)
    ]


def _lay_out_slots(device: str, spans: Sequence[AttemptSpan]) -> DeviceLanes | None:
    places = [parse_place(span.place).slots for span in spans]
    if not any(places):
        return None
    lanes = max(SLOTS_PER_GPU, *(slots[1] + 1 for slots in places if slots))
    pairs = zip(spans, places, strict=True)
    return DeviceLanes(device, lanes, True, [LaneBar(span, *(slots or (0, lanes - 1))) for span, slots in pairs])


def _pack_lanes(device: str, spans: Sequence[AttemptSpan], tolerance: float) -> DeviceLanes:
    """Each span in the first lane that is free."""
    ends: list[float] = []
    bars = []
    for span in sorted(spans, key=lambda span: (span.allocated, span.ended)):
        lane = next((lane for lane, end in enumerate(ends) if end <= span.allocated + tolerance), len(ends))
        ends[lane : lane + 1] = [span.ended]
        bars.append(LaneBar(span, lane, lane))
    return DeviceLanes(device, max(1, len(ends)), False, bars)


def common_node_prefix(names: Sequence[str]) -> str:
    """The node that all devices are on, with its slash; "" where they are on several."""
    heads = {name.rpartition("/")[0] for name in names}
    head = heads.pop() if len(heads) == 1 else ""
    return f"{head}/" if head else ""
