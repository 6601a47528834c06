"""The filter by a Kubernetes label selector."""

from __future__ import annotations

import msgspec
import pytest

from epp.testing import check_filter
from scorers.filters.label_selector import LabelSelectorFilter
from tests.unit.scorers.filters.conftest import filter_mask


def build_selector(**parameters: object) -> LabelSelectorFilter:
    return msgspec.convert(parameters, LabelSelectorFilter)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [True, True, True]),
        ({"matchLabels": {"zone": "a"}}, [True, False, False]),
        ({"matchLabels": {"zone": "a", "gpu": "h200"}}, [False, False, False]),
        ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}, [True, True, False]),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, [False, True, True]),
        ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, [True, True, False]),
        ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, [False, False, True]),
        (
            {"matchLabels": {"gpu": "h200"}, "matchExpressions": [{"key": "zone", "operator": "Exists"}]},
            [False, True, False],
        ),
    ],
)
def test_label_selector(parameters: dict[str, object], expected: list[bool]) -> None:
    assert (
        filter_mask(build_selector(**parameters), {"zone": "a"}, {"zone": "b", "gpu": "h200"}, {"gpu": "h200"})
        == expected
    )


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ({"key": "a", "operator": "In"}, "`values` must not be empty with operator In"),
        ({"key": "a", "operator": "Exists", "values": ["b"]}, "`values` must be empty with operator Exists"),
        ({"key": "a", "operator": "Like"}, "Invalid enum value 'Like'"),
        ({"operator": "Exists"}, "missing required field `key`"),
        ({"key": "a", "operator": "Exists", "value": "b"}, "unknown field `value`"),
    ],
)
def test_an_invalid_label_selector_is_rejected(requirement: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        build_selector(matchExpressions=[requirement])


def test_label_selector_contract() -> None:
    check_filter(build_selector(matchLabels={"zone": "a"}))
