"""Ticks at round times."""

from __future__ import annotations

_DAY = 86_400.0
TICK_STEPS = (
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0,
    21_600.0, 43_200.0, _DAY,
)  # fmt: skip


def tick_times(length: float, most: int) -> list[float]:
    """Multiples of one of STEPS (of days, beyond) from 0 to `length` seconds, at most `most` of them."""
    step = next((step for step in TICK_STEPS if length / step <= most - 1), 0.0)
    if not step:
        step = _DAY * -(-length // (_DAY * (most - 1)))
    return [index * step for index in range(int(length / step + 1e-9) + 1)]


def format_tick(seconds: float, length: float) -> str:
    """A tick's name on an axis of `length` seconds."""
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
