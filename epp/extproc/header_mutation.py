"""What we change in the headers of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from epp.extproc.codec import NO_MUTATION, HeaderMutation
from epp.headers import CONTROL_HEADERS, DESTINATION_ENDPOINT, RESERVED_HEADERS

STRIPPED_HEADERS: Final = CONTROL_HEADERS | RESERVED_HEADERS


def extract_control_headers(headers: dict[str, str]) -> frozenset[str]:
    """The control headers that came, none of which may reach a model server; forgeries are taken out."""
    found = STRIPPED_HEADERS.intersection(headers)
    for name in found & RESERVED_HEADERS:
        del headers[name]
    return found


def build_header_mutation(came: frozenset[str], setting: Mapping[str, str], body: bytes | None) -> HeaderMutation:
    """PLAIN itself if nothing but the destination changes; that is set from the choice alone.

    `came`: the control headers of the request; `body`: what replaces the request's, if not None.
    """
    if body is None and not setting and not came:
        return NO_MUTATION
    added = {name.lower(): value for name, value in setting.items()}
    added.pop(DESTINATION_ENDPOINT, None)
    if body is not None:
        added["content-length"] = str(len(body))
    return HeaderMutation(added, tuple(sorted(came - added.keys() - {DESTINATION_ENDPOINT})))
