"""Every built-in plugin keeps the contract of its kinds and optional interfaces, with its default parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epp.api import (
    AsyncProducer,
    Filter,
    LoadEstimator,
    Parser,
    Picker,
    PrefixCacheStatsProvider,
    Producer,
    ProfileHandler,
    RequestHeaderProvider,
    RequestHooks,
    Scorer,
    StateDumper,
)
from epp.config.catalogue import built_in_types
from epp.config.registry import PluginRegistry
from epp.testing import (
    check_async_producer,
    check_filter,
    check_load_estimator,
    check_parser,
    check_picker,
    check_prefix_cache_stats_provider,
    check_producer,
    check_profile_handler,
    check_request_header_provider,
    check_request_hooks,
    check_scorer,
    check_state_dumper,
)

CHECKS: dict[type, Callable[[Any], None]] = {
    AsyncProducer: check_async_producer,
    Filter: check_filter,
    LoadEstimator: check_load_estimator,
    Parser: check_parser,
    Picker: check_picker,
    PrefixCacheStatsProvider: check_prefix_cache_stats_provider,
    Producer: check_producer,
    ProfileHandler: check_profile_handler,
    RequestHeaderProvider: check_request_header_provider,
    RequestHooks: check_request_hooks,
    Scorer: check_scorer,
    StateDumper: check_state_dumper,
}
REGISTRY = PluginRegistry.load()
CASES = [
    pytest.param(plugin_type, check, id=f"{plugin_type}-{interface.__name__}")
    for plugin_type in built_in_types(REGISTRY)
    for interface, check in CHECKS.items()
    if issubclass(REGISTRY.find_class(plugin_type), interface)
]


@pytest.mark.parametrize(("plugin_type", "check"), CASES)
def test_contract(plugin_type: str, check: Callable[[Any], None]) -> None:
    check(REGISTRY.find_class(plugin_type)())
