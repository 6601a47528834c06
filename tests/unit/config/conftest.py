"""A registry of the real scorers and of stand-ins for what the data layer and the parsers will be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from epp.api import (
    INFLIGHT_REQUESTS,
    PREFIX_MATCH_BLOCKS,
    PREFIX_MATCH_INFO,
    PROMPT,
    UNCACHED_TOKENS,
    AsyncProducer,
    Column,
    DataSource,
    Discovery,
    Extractor,
    Parser,
    Plugin,
    Policy,
    PositiveCount,
    Producer,
    ProfileHandler,
    RequestAttribute,
    Scorer,
)
from epp.config.loader import load_config
from epp.config.plan import PickerPlan
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

RAIN = Column("rain", "mm", "something else that nobody produces by default")
MOOD = RequestAttribute("mood", "", "something that nobody produces by default")


class Tokens(Producer, type="token-producer"):
    produces = (PROMPT,)
    model_name: str = ""


class Prefixes(Producer, type="approx-prefix-cache-producer"):
    consumes = (PROMPT,)
    produces = (PREFIX_MATCH_BLOCKS, PREFIX_MATCH_INFO)
    auto_tune: bool = True
    block_size_tokens: PositiveCount = 16


class Load(Producer, type="inflight-load-producer"):
    consumes = (PREFIX_MATCH_BLOCKS, PROMPT, INFLIGHT_REQUESTS)
    produces = (UNCACHED_TOKENS,)


class Chicken(Producer, type="chicken"):
    consumes = (MOOD,)
    produces = (PREFIX_MATCH_BLOCKS, PREFIX_MATCH_INFO)


class Egg(AsyncProducer, type="egg"):
    consumes = (PREFIX_MATCH_BLOCKS,)
    produces = (MOOD,)


class Weather(Producer, type="weather"):
    produces = (RAIN,)


class Moody(Scorer, type="moody-scorer"):
    consumes = (MOOD,)


class Novel(Scorer, type="novel-scorer"):
    experimental = True


class Handler(ProfileHandler, type="two-profile-handler"):
    pass


class Detector(Policy, type="concurrency-detector"):
    max_concurrency: PositiveCount = 100


class OpenAI(Parser, type="openai-parser"):
    ignore_unknown_parameters = True


class Passthrough(Parser, type="passthrough-parser"):
    ignore_unknown_parameters = True


class Scrape(DataSource, type="metrics-data-source"):
    scheme: str = "http"
    interval: str = ""


class Core(Extractor, type="core-metrics-extractor"):
    default_engine: str = "vllm"


class File(Discovery, type="file-discovery"):
    path: str
    watch_file: bool = False


CLASSES: tuple[type[Plugin], ...] = (
    *(
        ActiveRequestScorer,
        KvCacheUtilizationScorer,
        LabelSelectorFilter,
        MaxScorePicker,
        PrefixCacheScorer,
        QueueScorer,
        RandomPicker,
        DecodeFilter,
    ),
    *(
        PrefillFilter,
        SingleProfileHandler,
        TokenLoadScorer,
        Tokens,
        Prefixes,
        Load,
        Chicken,
        Egg,
        Moody,
        Novel,
        Handler,
        Detector,
    ),
    *(OpenAI, Passthrough, Scrape, Core, File, Weather),
)

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


@pytest.fixture
def registry() -> PluginRegistry:
    return PluginRegistry.from_classes({kind.type: kind for kind in CLASSES})


@pytest.fixture
def plan(registry: PluginRegistry) -> Callable[[str], PickerPlan]:
    """Loads a configuration given without its two first lines."""
    return lambda text: load_config(HEAD + text, registry)


@pytest.fixture
def problems(registry: PluginRegistry) -> Callable[[str], list[str]]:
    """The problems of a configuration given without its two first lines; none is a failure."""

    def found(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_config(HEAD + text, registry)
        return [str(problem) for problem in caught.value.problems]

    return found
