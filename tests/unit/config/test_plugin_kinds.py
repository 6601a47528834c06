"""Plugin classes that do not implement what they seem to are reported when the configuration is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from epp.api import (
    PROMPT,
    WAITING_REQUESTS,
    Endpoints,
    Filter,
    LoadEstimator,
    Mask,
    Plugin,
    ProducedData,
    Request,
    RequestHooks,
    RequestOutcome,
    Scorer,
    Scores,
)
from epp.config.loader import load_config
from epp.config.plugin_kinds import find_interface_problems, kind_noun
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError
from tests.unit.config.conftest import (
    CONFIG_HEADER,
    EggProducer,
    StubExtractor,
    StubProducer,
    StubScorer,
    TwoProfileHandler,
)

BUILT_IN = PluginRegistry.load()


class ScorerWithoutScore(Scorer, type="no-score"):
    pass


class HooksWithoutInterface(StubScorer, type="hooks"):
    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None: ...


class MisspeltHook(StubScorer, RequestHooks, type="misspelt"):
    def response_completed(self, request: Request, slot: int, outcome: RequestOutcome) -> None: ...


class MisspeltHookWithoutInterface(StubScorer, type="misspelt-too"):
    def endpoint_remove(self, slot: int) -> None: ...


class AsyncHook(StubScorer, RequestHooks, type="async-hook"):
    async def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None: ...  # type: ignore[override]


class AsyncScorer(Scorer, type="async-scorer"):
    async def score(self, request: Request, endpoints: Endpoints) -> Scores:  # type: ignore[override]
        return np.zeros(len(endpoints), np.float32)


class SyncProducer(EggProducer, type="sync-producer"):
    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:  # type: ignore[override]
        return {}


class ShortSignature(Filter, type="short-signature"):
    def filter(self, endpoints: Endpoints) -> Mask:  # type: ignore[override]
        return np.ones(len(endpoints), np.bool_)


class SwappedParameters(Scorer, type="swapped"):
    def score(self, endpoints: Endpoints, request: Request) -> Scores:  # type: ignore[override]
        return np.zeros(len(endpoints), np.float32)


class NamesForKeys(StubScorer, type="names-for-keys"):
    consumes = ("waiting",)  # type: ignore[assignment]


class KeyWithoutTuple(StubProducer, type="key-without-tuple"):
    produces = WAITING_REQUESTS  # type: ignore[assignment]


class AttributeAsColumn(StubExtractor, type="attribute-as-column"):
    def __post_init__(self) -> None:
        self.columns = (PROMPT,)  # type: ignore[assignment]


class TypelessScorer(StubScorer):
    pass


class EstimatorWithoutMethod(StubProducer, LoadEstimator, type="no-estimate"):
    pass


class FilterWithScore(Filter, type="forgot-a-kind"):
    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return np.ones(len(endpoints), np.bool_)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.zeros(len(endpoints), np.float32)


@pytest.mark.parametrize(
    ("plugin_class", "message"),
    [
        (ScorerWithoutScore, "class ScorerWithoutScore does not implement score() of Scorer"),
        (EstimatorWithoutMethod, "class EstimatorWithoutMethod does not implement estimate_load() of LoadEstimator"),
        (
            HooksWithoutInterface,
            "class HooksWithoutInterface defines pre_request() but does not inherit RequestHooks, so it is never "
            "called: add RequestHooks to its bases, or rename the method",
        ),
        (AsyncHook, "AsyncHook.pre_request() must not be `async def`: see RequestHooks.pre_request"),
        (AsyncScorer, "AsyncScorer.score() must not be `async def`: see Scorer.score"),
        (SyncProducer, "SyncProducer.produce() must be `async def`: see AsyncProducer.produce"),
        (ShortSignature, "ShortSignature.filter() must take (request, endpoints) in this order: see Filter.filter"),
        (SwappedParameters, "SwappedParameters.score() must take (request, endpoints) in this order: see Scorer.score"),
        (
            NamesForKeys,
            "class NamesForKeys: `consumes` must be a tuple of Column or RequestAttribute objects, got ('waiting',)",
        ),
        (
            KeyWithoutTuple,
            "class KeyWithoutTuple: `produces` must be a tuple of Column or RequestAttribute objects, "
            "got Column('waiting')",
        ),
        (
            AttributeAsColumn,
            "class AttributeAsColumn: `columns` must be a tuple of Column objects, got (RequestAttribute('prompt'),)",
        ),
    ],
)
def test_a_class_that_breaks_its_interface_does_not_load(plugin_class: type[Plugin], message: str) -> None:
    registry = PluginRegistry.from_classes({**BUILT_IN_CLASSES, plugin_class.type: plugin_class})
    with pytest.raises(ConfigError) as caught:
        load_config(CONFIG_HEADER + f"plugins: [{{type: {plugin_class.type}}}]", registry)
    assert str(caught.value.problems[0]) == f"plugins[0].type: {message} (line 3)"


@pytest.mark.parametrize(
    ("plugin_class", "message"),
    [
        (
            MisspeltHook,
            "class MisspeltHook: response_completed() is never called; did you mean response_complete() of "
            "RequestHooks? If it is a helper, call it _response_completed()",
        ),
        (
            MisspeltHookWithoutInterface,
            "class MisspeltHookWithoutInterface: endpoint_remove() is never called; did you mean endpoint_removed() of "
            "RequestHooks? If it is a helper, call it _endpoint_remove()",
        ),
        (
            FilterWithScore,
            "class FilterWithScore defines score() but does not inherit Scorer, so it is never called: "
            "add Scorer to its bases, or rename the method",
        ),
    ],
)
def test_a_method_that_resembles_an_interface_method_is_warned_about(plugin_class: type[Plugin], message: str) -> None:
    registry = PluginRegistry.from_classes({**BUILT_IN_CLASSES, plugin_class.type: plugin_class})
    plan = load_config(CONFIG_HEADER + f"plugins: [{{type: {plugin_class.type}}}]", registry)
    assert f"plugins[0].type: {message} (line 3)" in [str(warning) for warning in plan.warnings]


class ListlessHandler(TwoProfileHandler, type="listless"):
    def validate_profiles(self, available: Sequence[str]) -> Sequence[str]:
        return "needs prefill and decode"


class RaisingHandler(TwoProfileHandler, type="raising"):
    def validate_profiles(self, available: Sequence[str]) -> Sequence[str]:
        raise KeyError("decode")


class ParameterReadingScorer(StubScorer, type="parameter-reading"):
    """Raises what is not a message to users."""

    model: str = ""

    def __post_init__(self) -> None:
        self._alpha = {"beta": 1}[self.model or "alpha"]


@pytest.mark.parametrize(
    ("plugin_class", "message"),
    [
        (ListlessHandler, "schedulingProfiles: 'listless' needs prefill and decode"),
        (RaisingHandler, "schedulingProfiles: 'raising' raised in validate_profiles(): KeyError: 'decode'"),
        (ParameterReadingScorer, "plugins[0].parameters: KeyError: 'alpha' (line 3)"),
    ],
)
def test_an_error_of_a_plugin_while_loading_is_a_problem(plugin_class: type[Plugin], message: str) -> None:
    registry = PluginRegistry.from_classes({**BUILT_IN_CLASSES, plugin_class.type: plugin_class})
    with pytest.raises(ConfigError) as caught:
        load_config(CONFIG_HEADER + f"plugins: [{{type: {plugin_class.type}}}]", registry)
    assert [str(problem) for problem in caught.value.problems] == [message]


def test_a_class_without_a_type_is_warned_about() -> None:
    registry = PluginRegistry.from_classes({**BUILT_IN_CLASSES, "mine": TypelessScorer})
    plan = load_config(CONFIG_HEADER + "plugins: [{type: mine}]", registry)
    assert [str(warning) for warning in plan.warnings] == [
        "plugins[0].type: class TypelessScorer names no plugin type: write `class TypelessScorer(…, type='mine')`, "
        "which metrics show (line 3)"
    ]


@pytest.mark.parametrize("plugin_type", list(BUILT_IN))
def test_built_in_plugins_implement_their_interfaces(plugin_type: str) -> None:
    assert find_interface_problems(BUILT_IN.find_class(plugin_type)) == []


def test_kind_nouns() -> None:
    assert kind_noun(TwoProfileHandler) == "profile handler"
    assert kind_noun(EggProducer) == "producer"
    assert kind_noun(Plugin) == "plugin"


BUILT_IN_CLASSES = {plugin_type: BUILT_IN.find_class(plugin_type) for plugin_type in BUILT_IN}
