"""What a request would add to an endpoint, in tokens."""

from __future__ import annotations

from math import isnan

import numpy as np

from epp.api import (
    PREFIX_BLOCKS,
    PREFIX_INFO,
    PROMPT,
    UNCACHED_TOKENS,
    ZERO,
    Charge,
    Count,
    Endpoints,
    Need,
    NonNegative,
    PrefixInfo,
    Produced,
    Producer,
    ProducerName,
    Prompt,
    Request,
)


class InflightLoad(Producer, type="inflight-load-producer"):
    """Prompt tokens that each endpoint would have to compute: prompt - matched blocks * block size, at least 0.

    That is also what the request weighs there while its prompt is computed. With `addEstimatedOutputTokens` it weighs
    prompt * `outputRatio` more until its end, at most what the client allows and `maxEstimatedOutputTokens` (0: any).
    """

    needs = (PROMPT, PREFIX_BLOCKS, PREFIX_INFO)
    gives = (UNCACHED_TOKENS,)

    add_estimated_output_tokens: bool = False
    output_ratio: NonNegative = 1.5
    max_estimated_output_tokens: Count = 0
    prefix_match_info_producer_name: ProducerName = ""
    sync_cross_replica_state: bool = True

    def __post_init__(self) -> None:
        self._blocks = PREFIX_BLOCKS.told_by(self.prefix_match_info_producer_name)
        self._info = PREFIX_INFO.told_by(self.prefix_match_info_producer_name)

    def wants(self) -> tuple[Need, ...]:
        return PROMPT, self._blocks, self._info

    def produce(self, request: Request, endpoints: Endpoints) -> Produced:
        prompt: Prompt | None = request[PROMPT]
        info: PrefixInfo | None = request[self._info]
        if prompt is None:
            return {UNCACHED_TOKENS: np.full(len(endpoints), np.nan, np.float32)}
        if info is None:
            return {UNCACHED_TOKENS: np.full(len(endpoints), prompt.tokens, np.float32)}
        computed = prompt.tokens - endpoints[self._blocks] * np.float32(info.block_tokens)
        return {UNCACHED_TOKENS: np.maximum(computed, ZERO)}

    def charge(self, request: Request, endpoints: Endpoints, position: int) -> Charge:
        """The weight if the request goes to the endpoint at `position`."""
        prompt: Prompt | None = request[PROMPT]
        tokens = 0 if prompt is None else prompt.tokens
        uncached = float(endpoints[UNCACHED_TOKENS][position])
        if isnan(uncached):
            uncached = float(tokens)
        return Charge(uncached, self._output(request, tokens) if self.add_estimated_output_tokens else 0.0)

    def _output(self, request: Request, prompt_tokens: int) -> float:
        caps = [round(prompt_tokens * self.output_ratio)]
        if request.max_output_tokens is not None:
            caps.append(request.max_output_tokens)
        if self.max_estimated_output_tokens:
            caps.append(self.max_estimated_output_tokens)
        return float(max(min(caps), 0))
