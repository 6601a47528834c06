"""A registry of the real scorers and of stand-ins for what the data layer and the parsers will be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from epp.api import (
    INFLIGHT_REQUESTS,
    PREFIX_BLOCKS,
    PREFIX_INFO,
    PROMPT,
    UNCACHED_TOKENS,
    AsyncProducer,
    Column,
    DataSource,
    Discovery,
    Extractor,
    Fact,
    Parser,
    Plugin,
    Policy,
    PositiveCount,
    Producer,
    ProfileHandler,
    Scorer,
)
from epp.config.loader import load
from epp.config.plan import Plan
from epp.config.registry import Registry
from epp.errors import ConfigError
from scorers.active_request import ActiveRequest
from scorers.filters.label_selector import LabelSelector
from scorers.filters.roles import DecodeRole, PrefillRole
from scorers.kv_cache_utilization import KvCacheUtilization
from scorers.pickers.max_score import MaxScore
from scorers.pickers.random import RandomChoice
from scorers.prefix_cache import PrefixCache
from scorers.profile_handlers.single_profile import SingleProfile
from scorers.queue import QueueDepth
from scorers.token_load import TokenLoad

RAIN = Column("rain", "mm", "something else that nobody produces by default")
MOOD = Fact("mood", "", "something that nobody produces by default")


class Tokens(Producer, type="token-producer"):
    gives = (PROMPT,)
    model_name: str = ""


class Prefixes(Producer, type="approx-prefix-cache-producer"):
    needs = (PROMPT,)
    gives = (PREFIX_BLOCKS, PREFIX_INFO)
    auto_tune: bool = True
    block_size_tokens: PositiveCount = 16


class Load(Producer, type="inflight-load-producer"):
    needs = (PREFIX_BLOCKS, PROMPT, INFLIGHT_REQUESTS)
    gives = (UNCACHED_TOKENS,)


class Chicken(Producer, type="chicken"):
    needs = (MOOD,)
    gives = (PREFIX_BLOCKS, PREFIX_INFO)


class Egg(AsyncProducer, type="egg"):
    needs = (PREFIX_BLOCKS,)
    gives = (MOOD,)


class Weather(Producer, type="weather"):
    gives = (RAIN,)


class Moody(Scorer, type="moody-scorer"):
    needs = (MOOD,)


class Novel(Scorer, type="novel-scorer"):
    alpha = True


class Handler(ProfileHandler, type="two-profile-handler"):
    pass


class Detector(Policy, type="concurrency-detector"):
    max_concurrency: PositiveCount = 100


class OpenAI(Parser, type="openai-parser"):
    lenient = True


class Passthrough(Parser, type="passthrough-parser"):
    lenient = True


class Scrape(DataSource, type="metrics-data-source"):
    scheme: str = "http"
    interval: str = ""


class Core(Extractor, type="core-metrics-extractor"):
    default_engine: str = "vllm"


class File(Discovery, type="file-discovery"):
    path: str
    watch_file: bool = False


CLASSES: tuple[type[Plugin], ...] = (
    *(ActiveRequest, KvCacheUtilization, LabelSelector, MaxScore, PrefixCache, QueueDepth, RandomChoice, DecodeRole),
    *(PrefillRole, SingleProfile, TokenLoad, Tokens, Prefixes, Load, Chicken, Egg, Moody, Novel, Handler, Detector),
    *(OpenAI, Passthrough, Scrape, Core, File, Weather),
)

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


@pytest.fixture
def registry() -> Registry:
    return Registry.of({kind.type: kind for kind in CLASSES})


@pytest.fixture
def plan(registry: Registry) -> Callable[[str], Plan]:
    """Loads a configuration given without its two first lines."""
    return lambda text: load(HEAD + text, registry)


@pytest.fixture
def problems(registry: Registry) -> Callable[[str], list[str]]:
    """The problems of a configuration given without its two first lines; none is a failure."""

    def found(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(HEAD + text, registry)
        return [str(problem) for problem in caught.value.problems]

    return found
