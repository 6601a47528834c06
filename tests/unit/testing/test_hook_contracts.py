"""The contract checks of the optional interfaces reject implementations that break the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from epp.api import (
    PROMPT,
    UNCACHED_TOKENS,
    BucketHistogram,
    Endpoint,
    Endpoints,
    LoadEstimate,
    LoadEstimator,
    PrefixCacheStats,
    PrefixCacheStatsProvider,
    Request,
    RequestHeaderProvider,
    RequestHooks,
    RequestOutcome,
    Scorer,
    Scores,
    StateDumper,
)
from epp.testing import (
    check_load_estimator,
    check_prefix_cache_stats_provider,
    check_request_header_provider,
    check_request_hooks,
    check_state_dumper,
)


class NeutralScorer(Scorer):
    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.full(len(endpoints), 0.5, np.float32)


class SoundHooks(NeutralScorer, RequestHooks, type="sound"):
    """Counts requests by slot; forgets a slot whose endpoint left."""

    def __post_init__(self) -> None:
        self.open: dict[int, int] = {}

    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None:
        for slot in chosen.values():
            self.open[slot] = self.open.get(slot, 0) + 1

    def response_complete(self, request: Request, slot: int, outcome: RequestOutcome) -> None:
        if slot in self.open:
            self.open[slot] -= 1

    def endpoint_removed(self, slot: int) -> None:
        self.open.pop(slot, None)


class SlotExpectingHooks(SoundHooks, type="slot-expecting"):
    """Raises if the endpoint left before the response was complete."""

    def response_complete(self, request: Request, slot: int, outcome: RequestOutcome) -> None:
        self.open[slot] -= 1


class KnownSlotHooks(SoundHooks, type="known-slot"):
    def endpoint_removed(self, slot: int) -> None:
        del self.open[slot]


class PromptReadingHooks(SoundHooks, type="prompt-reading"):
    """Reads attributes that are released when the request is routed."""

    def response_complete(self, request: Request, slot: int, outcome: RequestOutcome) -> None:
        assert request[PROMPT].token_count >= 0


class RequestChangingHooks(SoundHooks, type="request-changing"):
    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None:
        request.model = "other"


class ReturningHooks(SoundHooks, type="returning"):
    def endpoint_removed(self, slot: int) -> None:
        return self.open.pop(slot, 0)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (SlotExpectingHooks(), r"SlotExpectingHooks raised in response_complete\(\): KeyError"),
        (KnownSlotHooks(), r"KnownSlotHooks raised in endpoint_removed\(\): KeyError"),
        (PromptReadingHooks(), r"PromptReadingHooks raised in response_complete\(\): AttributeError"),
        (RequestChangingHooks(), r"pre_request\(\) changes the request: model"),
        (ReturningHooks(), r"endpoint_removed\(\) returned"),
    ],
)
def test_hooks_that_break_the_contract_are_rejected(hooks: RequestHooks, message: str) -> None:
    check_request_hooks(SoundHooks())
    with pytest.raises(AssertionError, match=message):
        check_request_hooks(hooks)


class UncachedTokensEstimator(NeutralScorer, LoadEstimator, type="uncached"):
    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        return LoadEstimate(float(np.nan_to_num(endpoints[UNCACHED_TOKENS][position])))


class NanEstimator(UncachedTokensEstimator, type="nan"):
    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        return LoadEstimate(float(endpoints[UNCACHED_TOKENS][position]))


class PromptEstimator(UncachedTokensEstimator, type="prompt"):
    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        return LoadEstimate(float(request[PROMPT].token_count))


class NegativeEstimator(UncachedTokensEstimator, type="negative"):
    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        return LoadEstimate(0.0, -1.0)


class NumberEstimator(UncachedTokensEstimator, type="number"):
    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        return 1.0  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (NanEstimator(), r"estimate_load\(\) returned LoadEstimate\(prompt_tokens=nan"),
        (PromptEstimator(), r"PromptEstimator raised in estimate_load\(\): AttributeError"),
        (NegativeEstimator(), "output_tokens=-1.0"),
        (NumberEstimator(), r"estimate_load\(\) returned float"),
    ],
)
def test_a_load_estimator_that_breaks_the_contract_is_rejected(estimator: LoadEstimator, message: str) -> None:
    check_load_estimator(UncachedTokensEstimator())
    with pytest.raises(AssertionError, match=message):
        check_load_estimator(estimator)


class FixedHeaders(NeutralScorer, RequestHeaderProvider, type="fixed-headers"):
    headers: dict[str, str]

    def request_headers(self, request: Request, chosen: Mapping[str, Endpoint]) -> Mapping[str, str]:
        return self.headers


class DecodeHeaders(FixedHeaders, type="decode-headers"):
    """Expects a profile that did not run."""

    def request_headers(self, request: Request, chosen: Mapping[str, Endpoint]) -> Mapping[str, str]:
        return {"x-decode": chosen["decode"].target}


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        (FixedHeaders(headers={"X-Upper": "1"}), "invalid header name 'X-Upper'"),
        (FixedHeaders(headers={":path": "/"}), "invalid header name ':path'"),
        (FixedHeaders(headers={"x-a": "1\r\nx-b: 2"}), "invalid value of the header x-a"),
        (FixedHeaders(headers={"x-gateway-destination-endpoint": "1.2.3.4:1"}), "which is the picker's"),
        (DecodeHeaders(headers={}), r"DecodeHeaders raised in request_headers\(\): KeyError"),
    ],
)
def test_a_header_provider_that_breaks_the_contract_is_rejected(provider: RequestHeaderProvider, message: str) -> None:
    check_request_header_provider(FixedHeaders(headers={"x-a": "1"}))
    with pytest.raises(AssertionError, match=message):
        check_request_header_provider(provider)


class FixedState(NeutralScorer, StateDumper, type="fixed-state"):
    state: Any

    def dump_state(self) -> Any:
        return self.state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (object(), "FixedState: the state cannot be encoded as JSON"),
        ("x" * (1 << 20), "the state takes 1048578 bytes, more than 1048576"),
    ],
)
def test_a_state_dumper_that_breaks_the_contract_is_rejected(state: Any, message: str) -> None:
    check_state_dumper(FixedState(state={"slots": [1, 2]}))
    with pytest.raises(AssertionError, match=message):
        check_state_dumper(FixedState(state=state))


class FixedStats(NeutralScorer, PrefixCacheStatsProvider, type="fixed-stats"):
    blocks: int = 0
    bounds: tuple[float, ...] = (0.0, 1.0)

    def prefix_cache_stats(self) -> PrefixCacheStats:
        return PrefixCacheStats(self.blocks, BucketHistogram(self.bounds), BucketHistogram((0, 16)))


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        (FixedStats(blocks=-1), "blocks is -1"),
        (FixedStats(bounds=(1.0, 0.0)), "bounds of hit_ratio do not ascend"),
    ],
)
def test_prefix_cache_stats_that_break_the_contract_are_rejected(
    provider: PrefixCacheStatsProvider, message: str
) -> None:
    check_prefix_cache_stats_provider(FixedStats())
    with pytest.raises(AssertionError, match=message):
        check_prefix_cache_stats_provider(provider)
