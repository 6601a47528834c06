"""Parsers of single flag values. Those marked "for argparse" raise ArgumentTypeError, the others InputError."""

from __future__ import annotations

import argparse
import re

from epp_batch.errors import InputError

_TIME_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
MAX_RETRIES = 100


def parse_duration(text: str) -> float:
    """Seconds above 0 from `90`, `90s`, `15m` or `1.5h`; for argparse."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"invalid duration {text!r}: expected a time above 0, e.g. 90, 90s, 15m or 2h")
    return float(match[1]) * _TIME_UNITS[match[2]]


def parse_seconds(text: str) -> float:
    """A finite number of seconds from 0; for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"invalid number of seconds {text!r}: expected 0 or more")
    return value


def parse_positive_int(text: str) -> int:
    """A whole number from 1; for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"invalid number {text!r}: expected a whole number from 1")
    return int(text)


def parse_retries(text: str) -> int:
    """A whole number from 0 to MAX_RETRIES; for argparse."""
    if not text.isdecimal() or int(text) > MAX_RETRIES:
        raise argparse.ArgumentTypeError(f"invalid number {text!r}: expected a whole number from 0 to {MAX_RETRIES}")
    return int(text)


def parse_user(text: str) -> str:
    """`UID` or `UID:GID`; for argparse."""
    if not all(part.isdecimal() for part in text.split(":", 1)):
        raise argparse.ArgumentTypeError(f"invalid user {text!r}: expected UID or UID:GID in numbers")
    return text


def parse_per_model(flag: str, texts: list[str]) -> dict[str, str]:
    """Values of a repeatable `[MODEL=]VALUE` flag by model, "*" for all other models.

    Raises InputError for an empty value, and for two different values of one model.
    """
    values: dict[str, str] = {}
    for text in texts:
        model, sign, value = text.partition("=")
        if not sign or model.startswith(("/", ".", "~")):  # the equals sign is part of a path
            model, value = "*", text
        if not model or not value:
            raise InputError(f"{flag} {text}", remedy="give VALUE or MODEL=VALUE")
        if values.setdefault(model, value) != value:
            scope = "all models" if model == "*" else f"model {model}"
            raise InputError(f"{flag}: two values for {scope}: {values[model]} and {value}", remedy="give one")
    return values


def parse_labels(flag: str, texts: list[str]) -> dict[str, str]:
    """Values of a repeatable `LABEL=VALUE` flag."""
    labels = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError(f"{flag} {text}", remedy="give LABEL=VALUE")
        labels[name] = value
    return labels
