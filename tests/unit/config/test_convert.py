"""Plain values as typed structs, with a path for every problem."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from epp.config.convert import INVALID, convert_value, describe_unknown_field
from epp.errors import Problem
from tests.unit.config.conftest import LoadPlan


def test_null_means_the_default(load_plan: LoadPlan) -> None:
    plan = load_plan(
        "plugins: [{type: prefix-cache-scorer, name: null, parameters: {matchLengthWeight: null}}]\ndataLayer:"
    )
    scorer = plan.profiles["default"].scorers[0][2]
    assert scorer.match_length_weight == 0  # type: ignore[attr-defined]


class Tier(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    name: str
    block_size: Annotated[int, msgspec.Meta(ge=1)] = 16

    def __post_init__(self) -> None:
        if self.name == "both":
            raise ValueError("expected gpu or cpu")
        if self.name == "none":
            raise KeyError(self.name)


class Cache(msgspec.Struct):
    tiers: list[Tier] = []
    weights: dict[str, float] = {}


def convert(value: Any, target: Any) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    converted = convert_value(value, target, "cache", problems)
    return converted, [str(problem) for problem in problems]


def test_every_problem_of_a_nested_value_has_its_path() -> None:
    value = {"tiers": [{"name": "gpu", "blockSize": 0}, {"nam": "cpu"}, {"name": "cpu"}], "weights": {"a": "x", "b": 2}}
    converted, problems = convert(value, Cache)
    assert problems == [
        "cache.tiers[0].blockSize: expected an integer >= 1",
        "cache.tiers[1].nam: unknown field; did you mean `name`?",
        "cache.tiers[1].name: is required",
        "cache.weights.a: expected a number, got text",
    ]
    assert converted.tiers[2].name == "cpu", "parts without a problem are converted"


@pytest.mark.parametrize(
    ("name", "problem"),
    [("both", "cache: expected gpu or cpu"), ("none", "cache: KeyError: 'none'")],
)
def test_an_exception_of_the_struct_itself_is_a_problem_at_its_path(name: str, problem: str) -> None:
    assert convert({"name": name}, Tier) == (INVALID, [problem])


def test_an_exception_that_may_follow_from_an_invalid_field_is_no_second_problem() -> None:
    assert convert({"name": "both", "blockSize": 0}, Tier) == (INVALID, ["cache.blockSize: expected an integer >= 1"])


def test_all_fields_are_listed_if_none_is_similar() -> None:
    assert describe_unknown_field("zzz", ["b", "a"]) == "unknown field; known fields: a, b"
    assert describe_unknown_field("zzz", []) == "unknown field; no fields are known here"
