"""What we change in the headers of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from epp.extproc.messages import DESTINATION, PLAIN, Mutation

CONTROL_HEADERS: Final = frozenset(
    (
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-served",
        "x-gateway-destination-endpoint-subset",
        "x-gateway-inference-fairness-id",
        "x-gateway-inference-objective",
        "x-gateway-model-name-rewrite",
        "x-llm-d-inference-fairness-id",
        "x-llm-d-inference-objective",
        "x-llm-d-model-name-rewrite",
        "x-llm-d-request-dropped-reason",
        "x-llm-d-slo-tpot-ms",
        "x-llm-d-slo-ttft-ms",
        "x-llm-d-video-duration-seconds",
        "x-llm-d-video-fps",
        "x-llm-d-video-resolution",
        "x-slo-tpot-ms",
        "x-slo-ttft-ms",
        "x-data-parallel-host-port",
        "x-encoder-hosts-ports",
        "x-kv-cache-source-host-port",
        "x-prefiller-host-port",
    )
)
"""Headers between client, gateway and picker; what a client put there never reaches a model server."""


def mutation(headers: Mapping[str, str], setting: Mapping[str, str], body: bytes | None) -> Mutation:
    """PLAIN itself if nothing but the destination changes. `body` is what replaces the request's, if not None."""
    removing = CONTROL_HEADERS.intersection(headers)
    if body is None and not setting and not removing:
        return PLAIN
    added = dict(setting)
    if body is not None:
        added["content-length"] = str(len(body))
    return Mutation(added, tuple(sorted(removing - added.keys() - {DESTINATION})))
