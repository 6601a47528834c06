"""Two prefix producers beside each other, as in llm-d's guide to tiered prefix caches: one a tier."""

from __future__ import annotations

import pytest

from epp.api import PROMPT, Endpoints, TokenizedPrompt
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.scheduling import producers
from epp.testing import builders

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: prefix-cache-scorer, name: gpu}
- {type: prefix-cache-scorer, name: cpu, parameters: {prefixMatchInfoProducerName: cpu-tier}}
- {type: approx-prefix-cache-producer, name: cpu-tier, parameters: {autoTune: false, lruCapacityPerServer: 41000}}
"""


@pytest.fixture
def pool() -> Endpoints:
    """Its GPUs hold eight blocks of 64 tokens."""
    return builders.build_endpoints(block_size=[64, 64], block_count=[8, 8])


def build_prompt(start: bytes, blocks: int) -> TokenizedPrompt:
    tokens = 64 * blocks
    return TokenizedPrompt(b"".join(start + i.to_bytes(3, "big") for i in range(tokens)), tokens)


def test_the_larger_tier_holds_what_the_smaller_one_evicted(pool: Endpoints) -> None:
    plan = load_config(CONFIG, PluginRegistry.load())
    plugins = plan.plugins_by_name()

    def score_and_route(prompt: TokenizedPrompt, slot: int) -> list[list[float]]:
        """The scores of both scorers; then the prompt is routed to the slot."""
        request, candidates = builders.build_request(attributes={PROMPT: prompt}), Endpoints(pool._snapshot, pool.slots)
        tiers = [(name, producer) for name, producer in plan.producers if name != "token-producer"]
        producers.run_sync_producers(tiers, request, candidates, pytest.fail)
        scores = [plugins[name].score(request, candidates).tolist() for name in ("gpu", "cpu")]  # type: ignore[attr-defined]
        for name, _ in tiers:
            plugins[name].pre_request(request, {"default": slot})  # type: ignore[attr-defined]
        return scores

    first = build_prompt(b"a", 4)
    assert score_and_route(first, slot=1) == [[0, 0], [0, 0]]
    assert score_and_route(first, slot=1) == [[0, 1], [0, 1]]
    score_and_route(build_prompt(b"b", 8), slot=1)
    assert score_and_route(first, slot=0) == [[0, 0], [0, 1]]
