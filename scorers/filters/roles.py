"""Roles of disaggregated serving, by the label `llm-d.ai/role`."""

from __future__ import annotations

from epp.api import Endpoint, Endpoints, Filter, Mark, Mask, Request

ROLE = "llm-d.ai/role"


def _having(roles: frozenset[str], *, unlabelled: bool = False) -> Mark:
    def test(endpoint: Endpoint) -> bool:
        role = endpoint.labels.get(ROLE)
        return unlabelled if role is None else role in roles

    return Mark(test)


class DecodeRole(Filter, type="decode-filter"):
    """Keep endpoints that decode: role decode, prefill-decode, both, encode-prefill-decode, or no role label."""

    lenient = True

    def __post_init__(self) -> None:
        roles = frozenset({"decode", "prefill-decode", "both", "encode-prefill-decode"})
        self._mark = _having(roles, unlabelled=True)

    def keep(self, request: Request, endpoints: Endpoints) -> Mask:
        return self._mark(endpoints)


class PrefillRole(Filter, type="prefill-filter"):
    """Keep endpoints that prefill: role prefill, encode-prefill, prefill-decode, both or encode-prefill-decode."""

    lenient = True

    def __post_init__(self) -> None:
        self._mark = _having(
            frozenset({"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"})
        )

    def keep(self, request: Request, endpoints: Endpoints) -> Mask:
        return self._mark(endpoints)


class EncodeRole(Filter, type="encode-filter"):
    """Keep endpoints that encode: role encode, encode-prefill or encode-prefill-decode."""

    lenient = True

    def __post_init__(self) -> None:
        self._mark = _having(frozenset({"encode", "encode-prefill", "encode-prefill-decode"}))

    def keep(self, request: Request, endpoints: Endpoints) -> Mask:
        return self._mark(endpoints)
