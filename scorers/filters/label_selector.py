"""Filter by a Kubernetes label selector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from epp.api import Endpoint, EndpointPredicate, Endpoints, Filter, Mask, Request


class LabelSelectorRequirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One item of `matchExpressions`, Kubernetes' LabelSelectorRequirement."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.operator in {"In", "NotIn"} and not self.values:
            raise ValueError(f"`values` must not be empty with operator {self.operator}")
        if self.operator in {"Exists", "DoesNotExist"} and self.values:
            raise ValueError(f"`values` must be empty with operator {self.operator}")

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy the requirement; a missing key satisfies NotIn, as in Kubernetes."""
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


class LabelSelectorFilter(Filter, type="label-selector-filter"):
    """Keep endpoints whose labels match a Kubernetes label selector; an empty selector keeps all."""

    match_labels: Annotated[dict[str, str], msgspec.Meta(examples=[{"zone": "a"}])] = msgspec.field(
        default_factory=dict
    )
    match_expressions: list[LabelSelectorRequirement] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        self._predicate = EndpointPredicate(self._matches)

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return self._predicate(endpoints)

    def _matches(self, endpoint: Endpoint) -> bool:
        labels = endpoint.labels
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )
