"""What we change in the headers of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from epp.extproc.codec import DESTINATION, PLAIN, Mutation

INPUTS: Final = frozenset(
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

OUTPUTS: Final = frozenset(
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

CONTROL: Final = INPUTS | OUTPUTS


def take_control(headers: dict[str, str]) -> frozenset[str]:
    """The control headers that came, none of which may reach a model server; forgeries are taken out."""
    found = CONTROL.intersection(headers)
    for name in found & OUTPUTS:
        del headers[name]
    return found


def mutation(came: frozenset[str], setting: Mapping[str, str], body: bytes | None) -> Mutation:
    """PLAIN itself if nothing but the destination changes; that is set from the choice alone.

    `came`: the control headers of the request; `body`: what replaces the request's, if not None.
    """
    if body is None and not setting and not came:
        return PLAIN
    added = {name.lower(): value for name, value in setting.items()}
    added.pop(DESTINATION, None)
    if body is not None:
        added["content-length"] = str(len(body))
    return Mutation(added, tuple(sorted(came - added.keys() - {DESTINATION})))
