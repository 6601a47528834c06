"""Go's duration strings, as flags and configurations use them."""

from __future__ import annotations

import re

_SECONDS_PER_UNIT = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")


def parse_duration(duration: str) -> float:
    """Seconds of a Go duration (time.ParseDuration) such as `50ms` or `1m30s`; ValueError if invalid or negative."""
    if duration == "0":
        return 0.0
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"invalid duration {duration!r}: expected a number with unit, e.g. 50ms, 2s or 1m30s")
    return sum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts)
