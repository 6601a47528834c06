"""Every built-in plugin keeps the contract with its default parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epp.api import AsyncProducer, Filter, Picker, Plugin, Producer, Scorer
from epp.config.catalogue import built_in_types
from epp.config.registry import PluginRegistry
from epp.testing import check_filter, check_picker, check_producer, check_scorer

CHECKS: dict[type[Plugin], Callable[[Any], None]] = {
    Filter: check_filter,
    Scorer: check_scorer,
    Picker: check_picker,
    Producer: check_producer,
    AsyncProducer: check_producer,
}
REGISTRY = PluginRegistry.load()
CHECKED = [type for type in built_in_types(REGISTRY) if issubclass(REGISTRY.find_class(type), tuple(CHECKS))]


@pytest.mark.parametrize("type", CHECKED)
def test_contract(type: str) -> None:
    plugin = REGISTRY.find_class(type)
    for kind, check in CHECKS.items():
        if issubclass(plugin, kind):
            check(plugin())
