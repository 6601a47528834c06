"""What we change in the headers of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from epp.extproc.codec import DESTINATION_ENDPOINT, NO_MUTATION, HeaderMutation

CONTROL_HEADERS: Final = frozenset(
    (
        "x-gateway-inference-fairness-id",
        "x-gateway-inference-objective",
        "x-gateway-model-name-rewrite",
        "x-llm-d-inference-fairness-id",
        "x-llm-d-inference-objective",
        "x-llm-d-model-name-rewrite",
        "x-llm-d-slo-tpot-ms",
        "x-llm-d-slo-ttft-ms",
        "x-llm-d-video-duration-seconds",
        "x-llm-d-video-fps",
        "x-llm-d-video-resolution",
        "x-slo-tpot-ms",
        "x-slo-ttft-ms",
    )
)
"""Headers by which clients ask for something; they are for the decision only."""

RESERVED_HEADERS: Final = frozenset(
    (
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-served",
        "x-gateway-destination-endpoint-subset",
        "x-llm-d-request-dropped-reason",
        "x-data-parallel-host-port",
        "x-encoder-hosts-ports",
        "x-kv-cache-source-host-port",
        "x-prefiller-host-port",
    )
)
"""Headers that picker and gateway set; from a client they are forgeries, which not even the decision sees."""

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
