"""Device hours and what they cost.

Held: from admission to the end of the attempt, times the part of the GPU (slots of 8 for a slice), since nobody else
can have it, whether its container runs yet or not. Used: the seconds that the worker says it transcribed, times the
same part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec

from epp_batch.report.model import Device, Span, Use
from epp_batch.report.places import parse

HOUR = 3600.0


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Per hour of a whole device; None where nobody said."""

    gpu: float | None = None
    worker: float | None = None
    """Of one worker process without a GPU."""
    models: dict[str, float] = {}
    """Of a GPU, for models that run on other ones."""
    currency: str = "USD"

    def of(self, span: Span) -> float | None:
        """The price of an hour of the span's device."""
        return self.worker if span.device == "worker" else self.models.get(span.model, self.gpu)


def weight(span: Span) -> float:
    """Devices held."""
    return span.share if span.device == "gpu" else 1.0


def hours(span: Span) -> float:
    """Hours of a whole device."""
    return span.seconds * weight(span) / HOUR


def cost(spans: Sequence[Span], prices: Prices) -> float | None:
    """Of all spans; None as soon as one has no price."""
    total = 0.0
    for span in spans:
        price = prices.of(span)
        if price is None:
            return None
        total += hours(span) * price
    return total if spans else None


def uses(spans: Sequence[Span], transcribed: Mapping[str, float], makespan: float, prices: Prices) -> tuple[Use, ...]:
    """One line for each kind of device that was held; `transcribed` is the worker's seconds by unit."""
    kinds: dict[Device, list[Span]] = {}
    for span in spans:
        kinds.setdefault(span.device, []).append(span)
    return tuple(_use(device, kinds[device], transcribed, makespan, prices) for device in sorted(kinds))


def _peak(spans: Sequence[Span]) -> float:
    """The most that was held at once; what is given back in an instant can be taken in it."""
    changes = sorted(
        [(span.allocated, weight(span)) for span in spans] + [(span.ended, -weight(span)) for span in spans]
    )
    return max(accumulate(change for _, change in changes), default=0.0)


def _use(
    device: Device, spans: Sequence[Span], transcribed: Mapping[str, float], makespan: float, prices: Prices
) -> Use:
    places = [parse(span.place) for span in spans]
    told = device == "worker" or all(place.is_gpu for place in places)
    count = len({place.device for place in places}) if told else 0
    held = sum(map(hours, spans))
    weights = {span.unit: weight(span) for span in spans}
    seconds = [transcribed[unit] * share for unit, share in weights.items() if unit in transcribed]
    total = cost(spans, prices)
    starting = ((span.ended if span.running is None else span.running) - span.allocated for span in spans)
    return Use(
        device=device,
        count=count,
        peak=_peak(spans),
        allocated=held,
        used=sum(seconds) / HOUR if seconds else None,
        starting=sum(gap * weight(span) for gap, span in zip(starting, spans, strict=True)) / HOUR,
        evicted=sum(hours(span) for span in spans if span.ending not in ("finished", "cancelled", "open")),
        share=held * HOUR / (count * makespan) if count and makespan else None,
        price=total / held if total is not None and held else None,
        cost=total,
    )
