"""Who goes in which row of the chart: a group for each device, lanes within it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from epp_batch.report.model import Span
from epp_batch.report.places import SLOTS, natural, parse


class Bar(NamedTuple):
    """A span and the lanes it covers, first and last."""

    span: Span
    first: int
    last: int


class Group(NamedTuple):
    """One device. Its lanes are the slots of a GPU, or as many as spans overlap."""

    device: str
    lanes: int
    slotted: bool
    bars: list[Bar]


def groups(spans: Iterable[Span], tolerance: float = 0.0) -> list[Group]:
    """Devices in natural order. Overlaps of up to `tolerance` seconds are taken for clocks that disagree."""
    by_device: dict[str, list[Span]] = {}
    for span in spans:
        by_device.setdefault(parse(span.place).device, []).append(span)
    return [
        _slotted(device, by_device[device]) or _packed(device, by_device[device], tolerance)
        for device in sorted(by_device, key=natural)
    ]


def _slotted(device: str, spans: Sequence[Span]) -> Group | None:
    places = [parse(span.place).slots for span in spans]
    if not any(places):
        return None
    lanes = max(SLOTS, *(slots[1] + 1 for slots in places if slots))
    pairs = zip(spans, places, strict=True)
    return Group(device, lanes, True, [Bar(span, *(slots or (0, lanes - 1))) for span, slots in pairs])


def _packed(device: str, spans: Sequence[Span], tolerance: float) -> Group:
    """Each span in the first lane that is free."""
    ends: list[float] = []
    bars = []
    for span in sorted(spans, key=lambda span: (span.allocated, span.ended)):
        lane = next((lane for lane, end in enumerate(ends) if end <= span.allocated + tolerance), len(ends))
        ends[lane : lane + 1] = [span.ended]
        bars.append(Bar(span, lane, lane))
    return Group(device, max(1, len(ends)), False, bars)


def common(names: Sequence[str]) -> str:
    """The node that all devices are on, with its slash; "" where they are on several."""
    heads = {name.rpartition("/")[0] for name in names}
    head = heads.pop() if len(heads) == 1 else ""
    return f"{head}/" if head else ""
