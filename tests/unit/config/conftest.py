"""A registry of the real scorers and of stand-ins for producers, parsers and the data layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from epp.api import (
    INFLIGHT_REQUESTS,
    PREFIX_MATCH_BLOCKS,
    PREFIX_MATCH_INFO,
    PROMPT,
    SCRAPED_COLUMNS,
    UNCACHED_TOKENS,
    AsyncProducer,
    Column,
    DataSource,
    Discovery,
    DiscoveryNotifier,
    Endpoint,
    EndpointExtractor,
    Endpoints,
    Extractor,
    ParsedRequest,
    Parser,
    Plugin,
    PositiveCount,
    ProducedData,
    Producer,
    ProfileHandler,
    Request,
    RequestAttribute,
    Scorer,
    Scores,
)
from epp.config.loader import load_config
from epp.config.plan import PickerPlan
from epp.config.plugin_kinds import SaturationDetector
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError
from scorers.active_request import ActiveRequestScorer
from scorers.filters.label_selector import LabelSelectorFilter
from scorers.filters.roles import DecodeFilter, PrefillFilter
from scorers.kv_cache_utilization import KvCacheUtilizationScorer
from scorers.pickers.max_score import MaxScorePicker
from scorers.pickers.random import RandomPicker
from scorers.prefix_cache import PrefixCacheScorer
from scorers.profile_handlers.single_profile import SingleProfileHandler
from scorers.queue import QueueScorer
from scorers.token_load import TokenLoadScorer

RAIN = Column("rain", "mm", "a column without a default producer")
MOOD = RequestAttribute("mood", "", "a request attribute without a default producer")


class StubProducer(Producer):
    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {}


class StubScorer(Scorer):
    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.zeros(len(endpoints), np.float32)


class StubParser(Parser):
    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        return ParsedRequest()


class StubTokenProducer(StubProducer, type="token-producer"):
    produces = (PROMPT,)
    model_name: str = ""


class StubPrefixCacheProducer(StubProducer, type="approx-prefix-cache-producer"):
    consumes = (PROMPT,)
    produces = (PREFIX_MATCH_BLOCKS, PREFIX_MATCH_INFO)
    auto_tune: bool = True
    block_size_tokens: PositiveCount = 16


class StubInflightLoadProducer(StubProducer, type="inflight-load-producer"):
    consumes = (PREFIX_MATCH_BLOCKS, PROMPT, INFLIGHT_REQUESTS)
    produces = (UNCACHED_TOKENS,)


class ChickenProducer(StubProducer, type="chicken"):
    consumes = (MOOD,)
    produces = (PREFIX_MATCH_BLOCKS, PREFIX_MATCH_INFO)


class EggProducer(AsyncProducer, type="egg"):
    consumes = (PREFIX_MATCH_BLOCKS,)
    produces = (MOOD,)

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {}


class WeatherProducer(StubProducer, type="weather"):
    produces = (RAIN,)


class MoodScorer(StubScorer, type="moody-scorer"):
    consumes = (MOOD,)


class ExperimentalScorer(StubScorer, type="novel-scorer"):
    experimental = True


class TwoProfileHandler(ProfileHandler, type="two-profile-handler"):
    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        return () if results else available

    def primary_profile(self, request: Request, results: Mapping[str, bool]) -> str:
        return next(iter(results))


class StubSaturationDetector(SaturationDetector, type="concurrency-detector"):
    max_concurrency: PositiveCount = 100


class StubOpenAIParser(StubParser, type="openai-parser"):
    ignore_unknown_parameters = True


class StubPassthroughParser(StubParser, type="passthrough-parser"):
    ignore_unknown_parameters = True


class StubDataSource(DataSource, type="metrics-data-source"):
    payload_type = str
    scheme: str = "http"
    interval: str = ""


class StubExtractor(Extractor, type="core-metrics-extractor"):
    payload_type = str
    columns = SCRAPED_COLUMNS
    default_engine: str = "vllm"

    def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
        raise AssertionError("a plan is only loaded here")


EVENTS = Column("events", "events", "events of an endpoint")


class EventSource(DataSource, type="event-source"):
    payload_type = bytes


class EventExtractor(StubExtractor, type="event-extractor"):
    payload_type = bytes
    columns = (EVENTS,)


HITS = Column("hits", "blocks", "what an index of events knows of a request")


class EventIndex(Producer, Extractor, type="event-index"):
    payload_type = bytes
    produces = (HITS,)

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {}

    def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
        raise AssertionError("a plan is only loaded here")


class HitScorer(StubScorer, type="hit-scorer"):
    consumes = (HITS,)


class EventScorer(StubScorer, type="event-scorer"):
    consumes = (EVENTS,)


class StubFileDiscovery(Discovery, type="file-discovery"):
    path: str
    watch_file: bool = False

    async def run(self, notifier: DiscoveryNotifier) -> None:
        raise AssertionError("a plan is only loaded here")


PLUGIN_CLASSES: tuple[type[Plugin], ...] = (
    *(ActiveRequestScorer, KvCacheUtilizationScorer, PrefixCacheScorer, QueueScorer, TokenLoadScorer),
    *(DecodeFilter, LabelSelectorFilter, PrefillFilter, MaxScorePicker, RandomPicker, SingleProfileHandler),
    *(StubTokenProducer, StubPrefixCacheProducer, StubInflightLoadProducer, ChickenProducer, EggProducer),
    *(WeatherProducer, MoodScorer, ExperimentalScorer, TwoProfileHandler, StubSaturationDetector),
    *(StubOpenAIParser, StubPassthroughParser, StubDataSource, StubExtractor, StubFileDiscovery),
    *(EventSource, EventExtractor, EventScorer, EventIndex, HitScorer),
)

LoadPlan = Callable[[str], PickerPlan]
LoadProblems = Callable[[str], list[str]]
CONFIG_HEADER = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def plugin_names(pairs: Sequence[Any]) -> list[str]:
    """Names of pairs, or of longer tuples, that begin with a plugin's name."""
    return [pair[0] for pair in pairs]


@pytest.fixture
def registry() -> PluginRegistry:
    return PluginRegistry.from_classes({plugin_class.type: plugin_class for plugin_class in PLUGIN_CLASSES})


@pytest.fixture
def load_plan(registry: PluginRegistry) -> LoadPlan:
    """Loads a configuration given without its two first lines."""
    return lambda text: load_config(CONFIG_HEADER + text, registry)


@pytest.fixture
def load_problems(registry: PluginRegistry) -> LoadProblems:
    """The problems of a configuration given without its two first lines; the test fails if it loads."""

    def problems_of(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_config(CONFIG_HEADER + text, registry)
        return [str(problem) for problem in caught.value.problems]

    return problems_of
