"""Loading any configuration text gives a plan or a list of problems."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.config import presets
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError

REGISTRY = PluginRegistry.load()
SAMPLES = Path(__file__).parents[1] / "unit" / "config" / "samples"
TEXTS = [path.read_text() for path in sorted(SAMPLES.glob("*.yaml"))] + [
    presets.read_preset(name) for name in presets.preset_names()
]
DOCUMENTS = [yaml.safe_load(text) for text in TEXTS]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from([*REGISTRY, "default", "queue", "mine"]),
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "type", "pluginRef", "x"]), inner)
    ),
    max_leaves=5,
)


def all_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a document except the empty one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in inner for found in ((*path, key), *all_paths(each, (*path, key)))]


@st.composite
def mutated_configs(draw: st.DrawFn) -> str:
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        paths = all_paths(document)
        if not paths:
            break
        *parents, last = draw(st.sampled_from(paths))
        inner = document
        for key in parents:
            inner = inner[key]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                inner[last] = draw(trees)
            case "remove":
                del inner[last]
            case _ if isinstance(inner, dict):
                inner[draw(st.sampled_from(["name", "weight", "plugins", "parameters", "pluginRef", "zone"]))] = draw(
                    trees
                )
            case _:
                inner.append(copy.deepcopy(inner[last]))
    return yaml.safe_dump(document, allow_unicode=True)


def check_load_result(text: str) -> None:
    """Loads the text: problems with messages, or a plan whose YAML loads to the same plan."""
    try:
        plan = load_config(text, REGISTRY)
    except ConfigError as error:
        problems = error.problems
    else:
        described = plan.to_yaml()
        assert load_config(described, REGISTRY).to_yaml() == described
        return
    assert problems
    assert all(problem.message for problem in problems)


@given(mutated_configs())
@settings(deadline=None, max_examples=200)
def test_a_mutated_configuration_loads_or_has_problems(text: str) -> None:
    check_load_result(text)


@given(st.sampled_from(TEXTS), st.integers(0, 2000), st.text(max_size=5), st.integers(0, 5))
@settings(deadline=None)
def test_an_edited_text_loads_or_has_problems(text: str, at: int, inserted: str, cut: int) -> None:
    at %= len(text)
    check_load_result(text[:at] + inserted + text[at + cut :])
