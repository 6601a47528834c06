"""Device hours and what they cost.

A device is held from admission to the end of the attempt, whether the container runs yet or not, since nothing else can
use it; a MIG slice holds slots / 8 of its GPU. It is used for the seconds of transcription that the worker measured,
times the same share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec

from epp_batch.report.model import AttemptSpan, DeviceKind, DeviceUsage
from epp_batch.report.places import parse_place

SECONDS_PER_HOUR = 3600.0


class DevicePrices(msgspec.Struct, frozen=True, kw_only=True):
    """Prices per hour of a whole device; None is unknown."""

    gpu_hour: float | None = None
    worker_hour: float | None = None
    """Of one worker process without a GPU."""
    gpu_hour_by_model: dict[str, float] = {}
    """For models that run on other GPUs."""
    currency: str = "USD"

    def price_of(self, span: AttemptSpan) -> float | None:
        """The hourly price of the span's device."""
        return self.worker_hour if span.device == "worker" else self.gpu_hour_by_model.get(span.model, self.gpu_hour)


def devices_held(span: AttemptSpan) -> float:
    """The share of a device that an attempt holds: of a GPU as `share` says, a whole worker."""
    return span.share if span.device == "gpu" else 1.0


def device_hours(span: AttemptSpan) -> float:
    """Hours of a whole device that an attempt held."""
    return span.seconds * devices_held(span) / SECONDS_PER_HOUR


def compute_cost(spans: Sequence[AttemptSpan], prices: DevicePrices) -> float | None:
    """The cost of all spans; None without spans, and as soon as one has no price."""
    total = 0.0
    for span in spans:
        price = prices.price_of(span)
        if price is None:
            return None
        total += device_hours(span) * price
    return total if spans else None


def measure_device_usage(
    spans: Sequence[AttemptSpan], transcription_seconds: Mapping[str, float], makespan: float, prices: DevicePrices
) -> tuple[DeviceUsage, ...]:
    """Usage of each kind of device that was held; `transcription_seconds` is what workers measured, by unit."""
    by_device: dict[DeviceKind, list[AttemptSpan]] = {}
    for span in spans:
        by_device.setdefault(span.device, []).append(span)
    return tuple(
        _measure_usage(device, by_device[device], transcription_seconds, makespan, prices)
        for device in sorted(by_device)
    )


def _peak_devices_held(spans: Sequence[AttemptSpan]) -> float:
    """Most devices held at the same time; a device that is released can be allocated in the same instant."""
    changes = sorted(
        [(span.allocated, devices_held(span)) for span in spans] + [(span.ended, -devices_held(span)) for span in spans]
    )
    return max(accumulate(change for _, change in changes), default=0.0)


def _measure_usage(
    device: DeviceKind,
    spans: Sequence[AttemptSpan],
    transcription_seconds: Mapping[str, float],
    makespan: float,
    prices: DevicePrices,
) -> DeviceUsage:
    places = [parse_place(span.place) for span in spans]
    places_name_devices = device == "worker" or all(place.is_gpu for place in places)
    count = len({place.device for place in places}) if places_name_devices else 0
    held = sum(map(device_hours, spans))
    share_of_unit = {span.unit: devices_held(span) for span in spans}
    used = [
        transcription_seconds[unit] * share for unit, share in share_of_unit.items() if unit in transcription_seconds
    ]
    total_cost = compute_cost(spans, prices)
    starting = [
        ((span.ended if span.running is None else span.running) - span.allocated) * devices_held(span) for span in spans
    ]
    return DeviceUsage(
        device=device,
        count=count,
        peak=_peak_devices_held(spans),
        allocated=held,
        used=sum(used) / SECONDS_PER_HOUR if used else None,
        starting=sum(starting) / SECONDS_PER_HOUR,
        evicted=sum(device_hours(span) for span in spans if span.ending not in ("finished", "cancelled", "open")),
        share=held * SECONDS_PER_HOUR / (count * makespan) if count and makespan else None,
        price=total_cost / held if total_cost is not None and held else None,
        cost=total_cost,
    )
