"""The kinds of plugin, and the check that a class implements the interfaces it inherits.

Messages, the catalogue and the check read one table of kinds. The check is made when a configuration is loaded: without
it a missing method would show at the first request, and a misspelt hook never.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from epp.api import (
    AsyncProducer,
    Column,
    DataSource,
    Discovery,
    Extractor,
    Filter,
    Parser,
    Picker,
    Plugin,
    Producer,
    ProfileHandler,
    RequestAttribute,
    Scorer,
)
from epp.api.hooks import HOOK_INTERFACES


class SaturationDetector(Plugin):
    """Decides when a pool is saturated: `flowControl.saturationDetector`.

    Not part of `epp.api` until a component calls it; so far its configuration is checked and kept.
    """


class PluginKind(NamedTuple):
    """`noun` for messages, `title` for the catalogue, `bases`: what a class of this kind inherits one of."""

    noun: str
    title: str
    bases: tuple[type[Plugin], ...]


PLUGIN_KINDS: Final = (
    PluginKind("filter", "Filters", (Filter,)),
    PluginKind("scorer", "Scorers", (Scorer,)),
    PluginKind("picker", "Pickers", (Picker,)),
    PluginKind("profile handler", "Profile handlers", (ProfileHandler,)),
    PluginKind("producer", "Producers", (Producer, AsyncProducer)),
    PluginKind("parser", "Parsers", (Parser,)),
    PluginKind("data source", "Data sources", (DataSource,)),
    PluginKind("extractor", "Extractors", (Extractor,)),
    PluginKind("discovery", "Discovery", (Discovery,)),
    PluginKind("saturation detector", "Saturation detectors", (SaturationDetector,)),
)

SIMILARITY: Final = 0.8
"""Ratio of `difflib` from which on a method's name counts as a misspelling of an interface's method."""


class InterfaceProblem(NamedTuple):
    """`fatal`: the class cannot work as it is written. Otherwise the method may be a helper with a similar name."""

    message: str
    fatal: bool


def kind_noun(plugin_class: type[Plugin]) -> str:
    """The noun of the first kind that the class is of, in the order of `PLUGIN_KINDS`; "plugin" if it is of none."""
    return next((kind.noun for kind in PLUGIN_KINDS if issubclass(plugin_class, kind.bases)), "plugin")


def find_interface_problems(plugin_class: type[Plugin]) -> list[InterfaceProblem]:
    """Lists violations of the contracts of the class's kinds and optional interfaces.

    Fatal: a required method that is missing, other parameters, another order of them or `async def` than the interface
    has, and a method of an optional interface that is not inherited. Not fatal: a method of a kind that is not
    inherited, and a public method whose name resembles one of an interface.
    """
    name = plugin_class.__name__
    inherited = {method: base for base in _interfaces() if issubclass(plugin_class, base) for method in vars(base)}
    foreign = {
        method: base for base in _interfaces() if not issubclass(plugin_class, base) for method in _public_methods(base)
    }
    problems = [
        InterfaceProblem(f"class {name} does not implement {method}() of {base.__name__}", fatal=True)
        for method, base in inherited.items()
        if getattr(getattr(plugin_class, method), "__isabstractmethod__", False)
    ]
    for method in _own_methods(plugin_class):
        if method in inherited:
            problem = _check_signature(plugin_class, method, inherited[method])
        elif method in foreign:
            base = foreign[method].__name__
            message = (
                f"class {name} defines {method}() but does not inherit {base}, so it is never called: "
                f"add {base} to its bases, or rename the method"
            )
            problem = InterfaceProblem(message, fatal=foreign[method] in HOOK_INTERFACES)
        else:
            hooks = {known: base for known, base in foreign.items() if base in HOOK_INTERFACES}
            problem = _check_spelling(name, method, inherited | hooks)
        if problem is not None:
            problems.append(problem)
    return problems


def find_data_key_problems(plugin: Plugin) -> list[str]:
    """Lists invalid entries of `consumes`, `produces` and an extractor's `columns`.

    Checked on the instance, because its parameters may decide them.
    """
    key_lists: list[tuple[str, tuple[type, ...]]] = [
        ("consumes", (Column, RequestAttribute)),
        ("produces", (Column, RequestAttribute)),
    ]
    if isinstance(plugin, Extractor):
        key_lists.append(("columns", (Column,)))
    problems = []
    for attribute, key_types in key_lists:
        keys: Any = getattr(plugin, attribute)
        if not isinstance(keys, tuple | list) or not all(isinstance(key, key_types) for key in keys):
            expected = " or ".join(key_type.__name__ for key_type in key_types)
            name = type(plugin).__name__
            problems.append(f"class {name}: `{attribute}` must be a tuple of {expected} objects, got {keys!r}")
    return problems


def _interfaces() -> Iterator[type]:
    for kind in PLUGIN_KINDS:
        yield from kind.bases
    yield from HOOK_INTERFACES


def _public_methods(owner: type) -> dict[str, Callable[..., Any]]:
    return {name: value for name, value in vars(owner).items() if inspect.isfunction(value) and name[0] != "_"}


def _own_methods(plugin_class: type[Plugin]) -> list[str]:
    """Public methods that the class and its bases define, without those of the interfaces themselves."""
    known = {*_interfaces(), Plugin, msgspec.Struct, object}
    names = (name for owner in plugin_class.__mro__ if owner not in known for name in _public_methods(owner))
    return list(dict.fromkeys(names))


def _check_signature(plugin_class: type[Plugin], method: str, base: type) -> InterfaceProblem | None:
    """Interfaces are called with positional arguments; a coroutine where a value is expected would not be awaited."""
    declared, implemented = vars(base)[method], getattr(plugin_class, method)
    if not inspect.isfunction(declared) or not inspect.isfunction(implemented):
        return None
    name, interface = f"{plugin_class.__name__}.{method}()", f"{base.__name__}.{method}"
    if inspect.iscoroutinefunction(declared) != inspect.iscoroutinefunction(implemented):
        expected = "must be" if inspect.iscoroutinefunction(declared) else "must not be"
        return InterfaceProblem(f"{name} {expected} `async def`: see {interface}", fatal=True)
    parameters = list(inspect.signature(declared).parameters)
    signature = inspect.signature(implemented)
    names = list(signature.parameters)
    swapped = [each for each in names if each in parameters and names.index(each) != parameters.index(each)]
    try:
        signature.bind(*parameters)
    except TypeError:
        swapped = parameters
    if swapped:
        expected = f"({', '.join(parameters[1:])})"
        return InterfaceProblem(f"{name} must take {expected} in this order: see {interface}", fatal=True)
    return None


def _check_spelling(class_name: str, method: str, interfaces: Mapping[str, type]) -> InterfaceProblem | None:
    similar = difflib.get_close_matches(method, [name for name in interfaces if name[0] != "_"], 1, SIMILARITY)
    if not similar:
        return None
    message = (
        f"class {class_name}: {method}() is never called; did you mean {similar[0]}() of "
        f"{interfaces[similar[0]].__name__}? If it is a helper, call it _{method}()"
    )
    return InterfaceProblem(message, fatal=False)
