"""Every header and metadata key of the endpoint-picker protocol, of llm-d and of Envoy that we read or write.

Header names are in lower case, as Envoy sends them. Sources: GAIE proposal 004 (endpoint-picker protocol) and
proposal 1199 (model rewrite); llm-d's `pkg/epp/metadata/consts.go` (aliases included), its
`pkg/epp/util/request/headers.go` (which headers are stripped), `pkg/common/routing/common.go` (routing sidecar) and
`pkg/common/error/error.go`. Where llm-d has renamed a header, both names are accepted, the present one first.
"""

from __future__ import annotations

from typing import Final

# Envoy: the request's id, and the namespaces of dynamic metadata that the protocol uses.
REQUEST_ID: Final = "x-request-id"
LB_NAMESPACE: Final = "envoy.lb"
SUBSET_HINT_NAMESPACE: Final = "envoy.lb.subset_hint"

# GAIE proposal 004. The destination is both a request header and metadata, the others are metadata only; a client
# that sends one of them as a header forges it.
DESTINATION_ENDPOINT: Final = "x-gateway-destination-endpoint"
DESTINATION_ENDPOINT_SERVED: Final = "x-gateway-destination-endpoint-served"
DESTINATION_ENDPOINT_SUBSET: Final = "x-gateway-destination-endpoint-subset"

DESTINATION_ENDPOINT_SCORES: Final = "x-gateway-destination-endpoint-scores"  # metadata; llm-d --emit-endpoint-scores
TEST_SERVED_ENDPOINT: Final = "x-conformance-test-served-endpoint"  # response header of GAIE's conformance suite

# llm-d, on responses.
REQUEST_DROPPED_REASON: Final = "x-llm-d-request-dropped-reason"
WENT_INTO_RESPONSE_HEADERS: Final = "x-went-into-resp-headers"

# llm-d, disaggregated serving: addresses that the picker sets and llm-d's routing sidecar connects to.
PREFILLER_HOST_PORT: Final = "x-prefiller-host-port"
ENCODER_HOSTS_PORTS: Final = "x-encoder-hosts-ports"
DATA_PARALLEL_HOST_PORT: Final = "x-data-parallel-host-port"
KV_CACHE_SOURCE_HOST_PORT: Final = "x-kv-cache-source-host-port"

# Sent by clients.
INFERENCE_OBJECTIVE: Final = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
FAIRNESS_ID: Final = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
MODEL_NAME_REWRITE: Final = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")
SLO_TTFT_MS: Final = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
SLO_TPOT_MS: Final = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")
VIDEO: Final = ("x-llm-d-video-duration-seconds", "x-llm-d-video-fps", "x-llm-d-video-resolution")

CONTROL_HEADERS: Final = frozenset(
    (*INFERENCE_OBJECTIVE, *FAIRNESS_ID, *MODEL_NAME_REWRITE, *SLO_TTFT_MS, *SLO_TPOT_MS, *VIDEO)
)
"""Headers by which clients control the decision. The picker reads them; model servers do not get them.

llm-d's `InputControlHeaders` but for the subset hint, which comes from the gateway and as metadata only.
"""

SIDECAR_ADDRESS_HEADERS: Final = frozenset(
    (PREFILLER_HOST_PORT, ENCODER_HOSTS_PORTS, DATA_PARALLEL_HOST_PORT, KV_CACHE_SOURCE_HOST_PORT)
)
"""Headers whose value is an address to which llm-d's routing sidecar, in front of a model server, connects."""

RESERVED_HEADERS: Final = SIDECAR_ADDRESS_HEADERS | {
    DESTINATION_ENDPOINT,
    DESTINATION_ENDPOINT_SERVED,
    DESTINATION_ENDPOINT_SUBSET,
    REQUEST_DROPPED_REASON,
}
"""Headers that only picker and gateway set. From a client they are forgeries: not even the decision sees them."""
