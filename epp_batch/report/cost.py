"""Device hours and what they cost.

Held: from admission to the end of the attempt, times the part of the GPU (slots of 8 for a slice), since nobody else
can have it, whether its container runs yet or not. Used: the seconds that the worker says it transcribed, times the
same part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec

from epp_batch.report.model import AttemptSpan, DeviceKind, DeviceUsage
from epp_batch.report.places import parse_place

SECONDS_PER_HOUR = 3600.0


class DevicePrices(msgspec.Struct, frozen=True, kw_only=True):
    """Per hour of a whole device; None where nobody said."""

    gpu_hour: float | None = None
    worker_hour: float | None = None
    """Of one worker process without a GPU."""
    gpu_hour_by_model: dict[str, float] = {}
    """Of a GPU, for models that run on other ones."""
    currency: str = "USD"

    def price_of(self, span: AttemptSpan) -> float | None:
        """The price of an hour of the span's device."""
        return self.worker_hour if span.device == "worker" else self.gpu_hour_by_model.get(span.model, self.gpu_hour)


def devices_held(span: AttemptSpan) -> float:
    """Devices held."""
    return span.share if span.device == "gpu" else 1.0


def device_hours(span: AttemptSpan) -> float:
    """Hours of a whole device."""
    return span.seconds * devices_held(span) / SECONDS_PER_HOUR


def compute_cost(spans: Sequence[AttemptSpan], prices: DevicePrices) -> float | None:
    """Of all spans; None as soon as one has no price."""
    total = 0.0
    for span in spans:
        price = prices.price_of(span)
        if price is None:
            return None
        total += device_hours(span) * price
    return total if spans else None


def measure_device_usage(
    spans: Sequence[AttemptSpan], transcribed: Mapping[str, float], makespan: float, prices: DevicePrices
) -> tuple[DeviceUsage, ...]:
    """One line for each kind of device that was held; `transcribed` is the worker's seconds by unit."""
    kinds: dict[DeviceKind, list[AttemptSpan]] = {}
    for span in spans:
        kinds.setdefault(span.device, []).append(span)
    return tuple(_measure_usage(device, kinds[device], transcribed, makespan, prices) for device in sorted(kinds))


def _peak_devices_held(spans: Sequence[AttemptSpan]) -> float:
    """The most that was held at once; what is given back in an instant can be taken in it."""
    changes = sorted(
        [(span.allocated, devices_held(span)) for span in spans] + [(span.ended, -devices_held(span)) for span in spans]
    )
    return max(accumulate(change for _, change in changes), default=0.0)


def _measure_usage(
    device: DeviceKind,
    spans: Sequence[AttemptSpan],
    transcribed: Mapping[str, float],
    makespan: float,
    prices: DevicePrices,
) -> DeviceUsage:
    places = [parse_place(span.place) for span in spans]
    told = device == "worker" or all(place.is_gpu for place in places)
    count = len({place.device for place in places}) if told else 0
    held = sum(map(device_hours, spans))
    weights = {span.unit: devices_held(span) for span in spans}
    seconds = [transcribed[unit] * share for unit, share in weights.items() if unit in transcribed]
    total = compute_cost(spans, prices)
    starting = ((span.ended if span.running is None else span.running) - span.allocated for span in spans)
    return DeviceUsage(
        device=device,
        count=count,
        peak=_peak_devices_held(spans),
        allocated=held,
        used=sum(seconds) / SECONDS_PER_HOUR if seconds else None,
        starting=sum(gap * devices_held(span) for gap, span in zip(starting, spans, strict=True)) / SECONDS_PER_HOUR,
        evicted=sum(device_hours(span) for span in spans if span.ending not in ("finished", "cancelled", "open")),
        share=held * SECONDS_PER_HOUR / (count * makespan) if count and makespan else None,
        price=total / held if total is not None and held else None,
        cost=total,
    )
