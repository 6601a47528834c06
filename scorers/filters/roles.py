"""Filters of disaggregated serving, by the role that the label `llm-d.ai/role` gives an endpoint."""

from __future__ import annotations

from epp.api import Endpoint, EndpointPredicate, Endpoints, Filter, Mask, Request

ROLE_LABEL = "llm-d.ai/role"


def _role_predicate(roles: frozenset[str], *, unlabelled: bool = False) -> EndpointPredicate:
    def has_role(endpoint: Endpoint) -> bool:
        role = endpoint.labels.get(ROLE_LABEL)
        return unlabelled if role is None else role in roles

    return EndpointPredicate(has_role)


class DecodeFilter(Filter, type="decode-filter"):
    """Keep endpoints that decode: role decode, prefill-decode, both, encode-prefill-decode, or no role label."""

    ignore_unknown_parameters = True

    def __post_init__(self) -> None:
        roles = frozenset({"decode", "prefill-decode", "both", "encode-prefill-decode"})
        self._predicate = _role_predicate(roles, unlabelled=True)

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return self._predicate(endpoints)


class PrefillFilter(Filter, type="prefill-filter"):
    """Keep endpoints that prefill: role prefill, encode-prefill, prefill-decode, both or encode-prefill-decode."""

    ignore_unknown_parameters = True

    def __post_init__(self) -> None:
        self._predicate = _role_predicate(
            frozenset({"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"})
        )

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return self._predicate(endpoints)


class EncodeFilter(Filter, type="encode-filter"):
    """Keep endpoints that encode: role encode, encode-prefill or encode-prefill-decode."""

    ignore_unknown_parameters = True

    def __post_init__(self) -> None:
        self._predicate = _role_predicate(frozenset({"encode", "encode-prefill", "encode-prefill-decode"}))

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return self._predicate(endpoints)
