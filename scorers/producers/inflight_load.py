"""Producer of uncached tokens, and estimator of the load of a request in flight."""

from __future__ import annotations

from math import isnan

import numpy as np

from epp.api import (
    PREFIX_MATCH_BLOCKS,
    PREFIX_MATCH_INFO,
    PROMPT,
    UNCACHED_TOKENS,
    ZERO,
    Count,
    Endpoints,
    LoadEstimate,
    LoadEstimator,
    NonNegative,
    PrefixMatchInfo,
    ProducedData,
    Producer,
    ProducerName,
    Request,
    TokenizedPrompt,
)


class InflightLoadProducer(Producer, LoadEstimator, type="inflight-load-producer"):
    """Produce the prompt tokens that each endpoint would have to compute.

    That is prompt - matched blocks * block size, at least 0. It is also the load of the request in the in-flight ledger
    until its first byte. With `addEstimatedOutputTokens`, prompt * `outputRatio` output tokens are added, at most the
    limit in the request and `maxEstimatedOutputTokens` (0: no limit), and both count until the request ends.
    `syncCrossReplicaState` is accepted and not read yet.
    """

    consumes = (PROMPT, PREFIX_MATCH_BLOCKS, PREFIX_MATCH_INFO)
    produces = (UNCACHED_TOKENS,)

    add_estimated_output_tokens: bool = False
    output_ratio: NonNegative = 1.5
    max_estimated_output_tokens: Count = 0
    prefix_match_info_producer_name: ProducerName = ""
    sync_cross_replica_state: bool = True

    def __post_init__(self) -> None:
        self._match_blocks = PREFIX_MATCH_BLOCKS.from_producer(self.prefix_match_info_producer_name)
        self._match_info = PREFIX_MATCH_INFO.from_producer(self.prefix_match_info_producer_name)
        self.consumes = (PROMPT, self._match_blocks, self._match_info)

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        prompt: TokenizedPrompt | None = request[PROMPT]
        info: PrefixMatchInfo | None = request[self._match_info]
        if prompt is None:
            return {UNCACHED_TOKENS: np.full(len(endpoints), np.nan, np.float32)}
        if info is None:
            return {UNCACHED_TOKENS: np.full(len(endpoints), prompt.token_count, np.float32)}
        computed = prompt.token_count - endpoints[self._match_blocks] * np.float32(info.block_size_tokens)
        return {UNCACHED_TOKENS: np.maximum(computed, ZERO)}

    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        prompt: TokenizedPrompt | None = request[PROMPT]
        tokens = 0 if prompt is None else prompt.token_count
        uncached = float(endpoints[UNCACHED_TOKENS][position])
        if isnan(uncached):
            uncached = float(tokens)
        return LoadEstimate(
            uncached, self._estimate_output_tokens(request, tokens) if self.add_estimated_output_tokens else 0.0
        )

    def _estimate_output_tokens(self, request: Request, prompt_tokens: int) -> float:
        """From the whole prompt, cached or not, as llm-d's SimpleTokenEstimator.EstimateOutput."""
        limits = [round(prompt_tokens * self.output_ratio)]
        if request.max_output_tokens is not None:
            limits.append(request.max_output_tokens)
        if self.max_estimated_output_tokens:
            limits.append(self.max_estimated_output_tokens)
        return float(max(min(limits), 0))
