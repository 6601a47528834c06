"""Runs a filter over endpoints with given labels."""

from __future__ import annotations

from collections.abc import Mapping

from epp.api import Filter
from epp.testing import build_endpoints, build_request


def filter_mask(filter: Filter, *labels: Mapping[str, str]) -> list[bool]:
    return filter.filter(build_request(), build_endpoints(labels=labels)).tolist()
