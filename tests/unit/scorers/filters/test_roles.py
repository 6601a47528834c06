"""Filters by the role label of llm-d: decode, prefill, encode."""

from __future__ import annotations

import pytest

from epp.api import Filter
from epp.testing import check_filter
from scorers.filters.roles import DecodeFilter, EncodeFilter, PrefillFilter
from tests.unit.scorers.filters.conftest import filter_mask

ROLE_LABEL = "llm-d.ai/role"


ROLES = (
    "decode",
    "prefill",
    "encode",
    "prefill-decode",
    "both",
    "encode-prefill",
    "encode-prefill-decode",
    "encode-decode",
)


@pytest.mark.parametrize(
    ("filter", "roles", "unlabelled"),
    [
        (DecodeFilter(), {"decode", "prefill-decode", "both", "encode-prefill-decode"}, True),
        (PrefillFilter(), {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}, False),
        (EncodeFilter(), {"encode", "encode-prefill", "encode-prefill-decode"}, False),
    ],
    ids=["decode", "prefill", "encode"],
)
def test_role_filters_keep_their_roles(filter: Filter, roles: set[str], unlabelled: bool) -> None:
    assert dict(zip(ROLES, filter_mask(filter, *({ROLE_LABEL: role} for role in ROLES)), strict=True)) == {
        role: role in roles for role in ROLES
    }
    assert filter_mask(filter, {}, {ROLE_LABEL: ""}) == [unlabelled, False]
    check_filter(filter)
