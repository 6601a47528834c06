"""Kubernetes label selectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from epp.api import Endpoint, Endpoints, Filter, Mark, Mask, Request


class Requirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One item of `matchExpressions`."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.operator in {"In", "NotIn"} and not self.values:
            raise ValueError(f"`values` must not be empty with operator {self.operator}")
        if self.operator in {"Exists", "DoesNotExist"} and self.values:
            raise ValueError(f"`values` must be empty with operator {self.operator}")

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels satisfy it; a missing key satisfies NotIn, as in Kubernetes."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case _:
                return value is None


class LabelSelector(Filter, type="label-selector-filter"):
    """Keep endpoints whose labels match a Kubernetes label selector; an empty selector keeps all."""

    match_labels: Annotated[dict[str, str], msgspec.Meta(examples=[{"zone": "a"}])] = msgspec.field(
        default_factory=dict
    )
    match_expressions: list[Requirement] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        self._mark = Mark(self._matches)

    def keep(self, request: Request, endpoints: Endpoints) -> Mask:
        return self._mark(endpoints)

    def _matches(self, endpoint: Endpoint) -> bool:
        labels = endpoint.labels
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.holds(labels) for requirement in self.match_expressions
        )
