"""Kubernetes resource quantities (`500m`, `8Gi`, `1e3`) as exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction

from epp_batch.errors import InputError

_SUFFIX_FACTORS = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15),
    "E": Fraction(10**18), "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
    "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")


def parse_quantity(text: str | int | float) -> Fraction:
    """The exact value of a quantity in its base unit; raises InputError if the text is not a quantity."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        raise InputError(f"invalid quantity {text!r}", remedy="write 2, 500m or 8Gi")
    return Fraction(match[1] + (match[2] or "")) * _SUFFIX_FACTORS[match[3] or ""]


def format_quantity(value: Fraction) -> str:
    """A quantity for display, with the largest binary suffix that divides it: 8Gi, 3, 0.5."""
    for unit in ("Ti", "Gi", "Mi"):
        scaled = value / _SUFFIX_FACTORS[unit]
        if scaled >= 1 and scaled.denominator == 1:
            return f"{scaled}{unit}"
    return str(value) if value.denominator == 1 else f"{float(value):g}"
