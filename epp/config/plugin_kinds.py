"""The kinds of plugin, and whether a class implements what it seems to.

One table names every kind: messages, the catalogue and the checks of the configuration read it.
`find_interface_problems` finds what would otherwise be noticed at the first request, or never: a method that is
missing, and one that looks like part of an interface but is never called.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from epp.api import (
    AsyncProducer,
    DataSource,
    Discovery,
    Extractor,
    Filter,
    Parser,
    Picker,
    Plugin,
    Producer,
    ProfileHandler,
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
"""Ratio of `difflib` from which on a method's name counts as a misspelling of an interface's."""


class InterfaceProblem(NamedTuple):
    """`fatal`: the class cannot work as it is written; else the method may be a helper with an unlucky name."""

    message: str
    fatal: bool


def kind_noun(plugin_class: type[Plugin]) -> str:
    """The noun of the first kind that the class is of, in the order of `PLUGIN_KINDS`; "plugin" if it is of none."""
    return next((kind.noun for kind in PLUGIN_KINDS if issubclass(plugin_class, kind.bases)), "plugin")


def find_interface_problems(plugin_class: type[Plugin]) -> list[InterfaceProblem]:
    """What is wrong with the class as an implementation of its kinds and optional interfaces."""
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
            problems += _signature_problems(plugin_class, method, inherited[method])
        elif method in foreign:
            base = foreign[method]
            problems.append(
                InterfaceProblem(
                    f"class {name} defines {method}() but does not inherit {base.__name__}, so it is never called: "
                    f"add {base.__name__} to its bases, or rename the method",
                    fatal=base in HOOK_INTERFACES,
                )
            )
        else:
            hooks = [known for known, base in foreign.items() if base in HOOK_INTERFACES]
            candidates = [known for known in (*inherited, *hooks) if not known.startswith("_")]
            if close := difflib.get_close_matches(method, candidates, 1, SIMILARITY):
                base = inherited.get(close[0]) or foreign[close[0]]
                message = (
                    f"class {name}: {method}() is never called; did you mean {close[0]}() of {base.__name__}? "
                    f"If it is a helper, call it _{method}()"
                )
                problems.append(InterfaceProblem(message, fatal=False))
    return problems


def _interfaces() -> Iterator[type]:
    for kind in PLUGIN_KINDS:
        yield from kind.bases
    yield from HOOK_INTERFACES


def _public_methods(owner: type) -> dict[str, Callable[..., Any]]:
    return {name: value for name, value in vars(owner).items() if inspect.isfunction(value) and name[0] != "_"}


def _own_methods(plugin_class: type[Plugin]) -> list[str]:
    """Public methods that the class and its bases define, those of the interfaces themselves left out."""
    known = {*_interfaces(), Plugin, msgspec.Struct, object}
    return [name for owner in plugin_class.__mro__ if owner not in known for name in _public_methods(owner)]


def _signature_problems(plugin_class: type[Plugin], method: str, base: type) -> list[InterfaceProblem]:
    """Interfaces are called with positional arguments; a coroutine where a value is expected would not be awaited."""
    declared, implemented = vars(base)[method], getattr(plugin_class, method)
    name = f"{plugin_class.__name__}.{method}()"
    if not inspect.isfunction(declared) or not inspect.isfunction(implemented):
        return []
    if inspect.iscoroutinefunction(declared) != inspect.iscoroutinefunction(implemented):
        wanted = "must be `async def`" if inspect.iscoroutinefunction(declared) else "must not be `async def`"
        return [InterfaceProblem(f"{name} {wanted}: see {base.__name__}.{method}", fatal=True)]
    parameters = list(inspect.signature(declared).parameters)
    try:
        inspect.signature(implemented).bind(*parameters)
    except TypeError:
        wanted = ", ".join(parameters[1:])
        return [InterfaceProblem(f"{name} must take ({wanted}): see {base.__name__}.{method}", fatal=True)]
    return []
