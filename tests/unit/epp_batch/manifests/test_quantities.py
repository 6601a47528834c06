"""Parsing and formatting of Kubernetes quantities."""

from __future__ import annotations

from fractions import Fraction

import pytest

from epp_batch.errors import InputError
from epp_batch.manifests.quantities import format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("2", 2, "2"),
        ("500m", 0.5, "0.5"),
        ("8Gi", 2**33, "8Gi"),
        ("1e3", 1000, "1000"),
        (4, 4, "4"),
        ("1.5k", 1500, "1500"),
    ],
)
def test_parse_and_format_quantity(text, value, shown):
    assert parse_quantity(text) == Fraction(value)
    assert format_quantity(parse_quantity(text)) == shown


@pytest.mark.parametrize("text", ["", "x", "8GB", "1 2", "Gi"])
def test_invalid_quantity_is_rejected(text):
    with pytest.raises(InputError, match="invalid quantity"):
        parse_quantity(text)
