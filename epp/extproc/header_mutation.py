"""Header mutations of the request: control headers stripped, headers of the decision set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from epp.extproc.codec import NO_MUTATION, HeaderMutation
from epp.headers import CONTROL_HEADERS, DESTINATION_ENDPOINT, RESERVED_HEADERS

STRIPPED_HEADERS: Final = CONTROL_HEADERS | RESERVED_HEADERS
"""Headers of a client that no model server gets."""


def extract_control_headers(headers: dict[str, str]) -> frozenset[str]:
    """The names of those headers that the mutation has to remove. Reserved ones are removed from `headers` at once."""
    found = STRIPPED_HEADERS.intersection(headers)
    for name in found & RESERVED_HEADERS:
        del headers[name]
    return found


def build_header_mutation(
    stripped: frozenset[str], set_headers: Mapping[str, str], body: bytes | None
) -> HeaderMutation:
    """The mutation that removes `stripped` and sets `set_headers`, and content-length if `body` replaces the body.

    It never contains the destination, which the reply takes from the routing decision itself. If nothing else
    changes, the result is the object `NO_MUTATION`.
    """
    if body is None and not set_headers and not stripped:
        return NO_MUTATION
    added = {name.lower(): value for name, value in set_headers.items()}
    added.pop(DESTINATION_ENDPOINT, None)
    if body is not None:
        # In buffered mode Envoy rejects a body of another length than this (processing_mode.proto, BodySendMode).
        added["content-length"] = str(len(body))
    return HeaderMutation(added, tuple(sorted(stripped - added.keys() - {DESTINATION_ENDPOINT})))
