"""What the charts of SVG and terminal share: the device and lane that a span is drawn in, and the ticks of time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from epp_batch.report.model import AttemptSpan
from epp_batch.report.places import SLOTS_PER_GPU, natural_sort_key, parse_place

_DAY = 86_400.0
TICK_STEPS = (
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0,
    21_600.0, 43_200.0, _DAY,
)  # fmt: skip


class LaneBar(NamedTuple):
    """A span and the lanes it covers, first and last."""

    span: AttemptSpan
    first_lane: int
    last_lane: int


class DeviceLanes(NamedTuple):
    """The bars of one device. Its lanes are the slots of a GPU, or as many as spans overlap."""

    device: str
    lane_count: int
    has_slots: bool
    bars: list[LaneBar]


def group_by_device(spans: Iterable[AttemptSpan], tolerance: float = 0.0) -> list[DeviceLanes]:
    """Devices in natural order; overlaps of at most `tolerance` seconds, due to clock skew, do not count."""
    by_device: dict[str, list[AttemptSpan]] = {}
    for span in spans:
        by_device.setdefault(parse_place(span.place).device, []).append(span)
    return [
        _lay_out_slots(device, by_device[device]) or _pack_lanes(device, by_device[device], tolerance)
        for device in sorted(by_device, key=natural_sort_key)
    ]


def _lay_out_slots(device: str, spans: Sequence[AttemptSpan]) -> DeviceLanes | None:
    """A lane for each slot; None if no span is of a slice."""
    slots_of_spans = [parse_place(span.place).slots for span in spans]
    if not any(slots_of_spans):
        return None
    lane_count = max(SLOTS_PER_GPU, *(slots[1] + 1 for slots in slots_of_spans if slots))
    pairs = zip(spans, slots_of_spans, strict=True)
    return DeviceLanes(
        device, lane_count, True, [LaneBar(span, *(slots or (0, lane_count - 1))) for span, slots in pairs]
    )


def _pack_lanes(device: str, spans: Sequence[AttemptSpan], tolerance: float) -> DeviceLanes:
    """Each span in the first lane that is free."""
    lane_ends: list[float] = []
    bars = []
    for span in sorted(spans, key=lambda span: (span.allocated, span.ended)):
        free_lanes = (lane for lane, end in enumerate(lane_ends) if end <= span.allocated + tolerance)
        lane = next(free_lanes, len(lane_ends))
        lane_ends[lane : lane + 1] = [span.ended]
        bars.append(LaneBar(span, lane, lane))
    return DeviceLanes(device, max(1, len(lane_ends)), False, bars)


def common_node_prefix(devices: Sequence[str]) -> str:
    """The node that all devices are on, with a slash; empty if they are on several."""
    nodes = {device.rpartition("/")[0] for device in devices}
    node = nodes.pop() if len(nodes) == 1 else ""
    return f"{node}/" if node else ""


def tick_times(length: float, max_count: int) -> list[float]:
    """Seconds from 0 to `length`, at most `max_count`: multiples of one of TICK_STEPS, or of whole days beyond."""
    step = next((step for step in TICK_STEPS if length / step <= max_count - 1), 0.0)
    if not step:
        step = _DAY * -(-length // (_DAY * (max_count - 1)))
    return [index * step for index in range(int(length / step + 1e-9) + 1)]


def format_tick(seconds: float, length: float) -> str:
    """The label of a tick on an axis of `length` seconds."""
    if not seconds:
        return "0"
    if length < 120:
        return f"{seconds:g} s"
    whole = round(seconds)
    if length < 7200:
        return f"{whole // 60}:{whole % 60:02d} min" if whole % 60 else f"{whole // 60} min"
    if length < 3 * _DAY:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h" if whole % 3600 else f"{whole // 3600} h"
    days, rest = divmod(whole, int(_DAY))
    return f"{days} d {rest // 3600} h" if rest else f"{days} d"
