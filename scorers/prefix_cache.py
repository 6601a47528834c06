"""Scorer of prefix-cache hits."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from epp.api import (
    PREFIX_MATCH_BLOCKS,
    PREFIX_MATCH_INFO,
    Endpoints,
    Fraction,
    PrefixMatchInfo,
    ProducerName,
    Request,
    Scorer,
    Scores,
)


class PrefixCacheScorer(Scorer, type="prefix-cache-scorer"):
    """Prefer endpoints whose prefix cache holds the beginning of the prompt.

    (1 - w) * matched / total + w * min(1, matched tokens / scale)^2, where w is `matchLengthWeight`, scale
    `matchLengthScaleTokens`, and matched and total count blocks; 0 for all endpoints if the prompt has no blocks.
    """

    consumes = (PREFIX_MATCH_BLOCKS, PREFIX_MATCH_INFO)

    prefix_match_info_producer_name: ProducerName = ""
    match_length_weight: Fraction = 0.0
    match_length_scale_tokens: Annotated[
        float, msgspec.Meta(gt=0, description="matched tokens at which the length term reaches its maximum")
    ] = 8192

    def __post_init__(self) -> None:
        self._match_blocks = PREFIX_MATCH_BLOCKS.from_producer(self.prefix_match_info_producer_name)
        self._match_info = PREFIX_MATCH_INFO.from_producer(self.prefix_match_info_producer_name)
        self.consumes = (self._match_blocks, self._match_info)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        info: PrefixMatchInfo | None = request[self._match_info]
        if info is None or info.total_blocks == 0:
            return np.zeros(len(endpoints), np.float32)
        matched = endpoints[self._match_blocks]
        share: Scores = np.divide(matched, info.total_blocks)
        weight = self.match_length_weight
        if weight == 0:
            return share
        length = np.minimum(matched * np.float32(info.block_size_tokens / self.match_length_scale_tokens), 1)
        # float32 rounding may exceed 1, which would be reported as a fault of this plugin.
        return np.asarray(np.minimum((1 - weight) * share + weight * length * length, 1))
