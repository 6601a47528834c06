"""Plugin types of llm-d's picker (llm-d-router v0.10, cmd/epp/runner).

For those that do not exist here, messages say that they are not available yet instead of suggesting a similar name.
"""

from __future__ import annotations

from typing import Final

_TYPE_NAMES: Final = """
queue-scorer running-requests-size-scorer kv-cache-utilization-scorer prefix-cache-scorer load-aware-scorer
active-request-scorer token-load-scorer lora-affinity-scorer no-hit-lru-scorer context-length-aware
precise-prefix-cache-scorer mm-embeddings-cache-scorer latency-scorer session-affinity-scorer
header-label-affinity-scorer endpoint-attribute-scorer topology-affinity-scorer multicluster-queue-scorer
multicluster-kv-cache-utilization-scorer multicluster-prefix-cache-scorer

label-selector-filter by-label-selector by-label decode-filter prefill-filter encode-filter
prefix-cache-affinity-filter slo-headroom-tier-filter session-affinity-filter utilization-filter
endpoint-attribute-filter topology-affinity-filter multicluster-session-affinity-filter
header-based-testing-filter destination-endpoint-served-verifier disaggregatedset-rollout-screener

max-score-picker random-picker weighted-random-picker

single-profile-handler disagg-profile-handler pd-profile-handler data-parallel-profile-handler
header-profile-handler disagg-headers-handler prefill-header-handler always-disagg-pd-decider
prefix-based-pd-decider always-disagg-multimodal-decider

token-producer tokenizer approx-prefix-cache-producer precise-prefix-cache-producer inflight-load-producer
predicted-latency-producer mm-embeddings-cache-producer session-id-producer burst-prefix-cache-producer
p2p-source-producer multicluster-approx-prefix-cache-producer latency-slo-admitter probabilistic-admitter
request-attribute-reporter agent-identity

global-strict-fairness-policy round-robin-fairness-policy program-aware-fairness fcfs-ordering-policy
edf-ordering-policy slo-deadline-ordering-policy static-usage-limit-policy priority-holdback-policy
soft-reflective-ceiling-policy sheddable-eviction-filter priority-then-time-eviction-order-policy
utilization-detector concurrency-detector

openai-parser anthropic-parser vllmhttp-parser sglanghttp-parser vllmgrpc-parser vertexai-parser
passthrough-parser

metrics-data-source core-metrics-extractor models-data-source models-data-extractor topology-extractor
dcgm-data-source dcgm-extractor k8s-notification-source endpoint-notification-source
multicluster-metrics-data-source multicluster-metrics-extractor file-discovery multicluster-file-discovery
"""

LLMD_PLUGIN_TYPES: Final = frozenset(_TYPE_NAMES.split())
