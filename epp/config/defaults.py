"""What a configuration leaves out: llm-d's order of defaulting, without its dice.

llm-d fills an omitted profile and an omitted picker in the order of a Go map, which differs from start to start; here
it is the order of the file, and two pickers to choose from are an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from epp.api import (
    COUNTED,
    INFLIGHT_TOKENS,
    PREFIX_BLOCKS,
    PREFIX_INFO,
    PROMPT,
    SCRAPED,
    UNCACHED_TOKENS,
    AsyncProducer,
    Filter,
    Need,
    Picker,
    Plugin,
    Producer,
    ProfileHandler,
    Scorer,
)
from epp.config.declare import Declarations, Declared
from epp.config.schema import ProfileEntry, ProfileSpec

DEFAULT_PROFILE: Final = "default"
DEFAULT_PICKER: Final = "max-score-picker"
DEFAULT_HANDLER: Final = "single-profile-handler"
DEFAULT_PARSERS: Final = ("openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser")
DEFAULT_SOURCE: Final = "metrics-data-source"
DEFAULT_EXTRACTOR: Final = "core-metrics-extractor"
DEFAULT_DETECTOR: Final = "utilization-detector"
DEFAULT_PRODUCERS: Final[dict[Need, str]] = {
    PREFIX_BLOCKS: "approx-prefix-cache-producer",
    PREFIX_INFO: "approx-prefix-cache-producer",
    PROMPT: "token-producer",
    UNCACHED_TOKENS: "inflight-load-producer",
    INFLIGHT_TOKENS: "inflight-load-producer",
}
FREE: Final = frozenset({*SCRAPED, *COUNTED} - set(DEFAULT_PRODUCERS))
"""Columns that are there without a producer: scraped, or counted in the ledger."""


def default_profiles(declarations: Declarations) -> list[ProfileSpec]:
    """One profile of every declared filter, scorer and picker, in file order."""
    found = declarations.of(Filter, Scorer, Picker)
    return [ProfileSpec(name=DEFAULT_PROFILE, plugins=[ProfileEntry(plugin_ref=entry.name) for entry in found])]


def default_picker(declarations: Declarations, path: str) -> Declared | None:
    """The picker of a profile that names none: the only one declared, else the best score."""
    pickers = declarations.of(Picker)
    if len(pickers) > 1:
        names = ", ".join(entry.name for entry in pickers)
        declarations.problem(path, f"names no picker, and several are declared ({names}): name one")
        return None
    return pickers[0] if pickers else declarations.create(DEFAULT_PICKER, "the default picker")


def default_handler(declarations: Declarations, profiles: Sequence[str]) -> Declared | None:
    """The one profile handler; with a single profile it may be left out."""
    handlers = declarations.of(ProfileHandler)
    for extra in handlers[1:]:
        declarations.problem(extra.path, f"a second profile handler; {handlers[0].path} is one already")
    if not handlers:
        if len(profiles) > 1:
            if any(entry.kind is None for entry in declarations.all()):
                return None  # one of those that are not known may have been meant
            declarations.problem("plugins", f"no profile handler for the {len(profiles)} scheduling profiles")
            return None
        handlers = [declarations.create(DEFAULT_HANDLER, "the default profile handler")]
    if handlers[0].plugin is not None:
        assert isinstance(handlers[0].plugin, ProfileHandler)
        for objection in handlers[0].plugin.objections(profiles):
            declarations.problem("schedulingProfiles", f"{handlers[0].name!r} {objection}")
    return handlers[0]


def add_producers(declarations: Declarations) -> list[Declared]:
    """All producers, each after those it needs; missing ones are added for what the used plugins need."""
    for entry in declarations.of(Producer, AsyncProducer):
        entry.used = True
    givers = _givers(declarations)
    waiting = [entry for entry in declarations.all() if entry.used and entry.plugin is not None]
    while waiting:
        consumer = waiting.pop(0)
        for need in consumer.instance().wants():
            if need in FREE or need in givers:
                continue
            type = DEFAULT_PRODUCERS.get(need)
            if type is None:
                declarations.problem(consumer.path, f"needs {need.name!r}, which no declared plugin gives")
                continue
            added = declarations.create(type, f"for {consumer.name}")
            added.used = True
            if added.plugin is None or need in givers:
                continue
            waiting.append(added)
            for given in added.instance().gives:
                givers.setdefault(given, added)
            givers.setdefault(need, added)
    _check_producer_names(declarations)
    return _in_order(declarations, givers)


def _givers(declarations: Declarations) -> dict[Need, Declared]:
    givers: dict[Need, Declared] = {}
    for entry in declarations.of(Producer, AsyncProducer):
        gives: tuple[Need, ...] = entry.kind.gives if entry.kind is not None else ()
        for given in gives:
            first = givers.setdefault(given, entry)
            if first is not entry:
                message = f"gives {given.name!r}, which {first.name!r} gives already: declare one of them"
                declarations.problem(entry.path, message)
    return givers


def _check_producer_names(declarations: Declarations) -> None:
    """Parameters called `…ProducerName` name a producer of the plan."""
    producers = {entry.name for entry in declarations.of(Producer, AsyncProducer)}
    unknown = {entry.name for entry in declarations.all() if entry.kind is None}
    for entry in declarations.all():
        if not entry.used or entry.plugin is None:
            continue
        for field in msgspec.structs.fields(entry.plugin):
            name = getattr(entry.plugin, field.name)
            if field.encode_name.endswith("ProducerName") and name and name not in producers | unknown:
                known = ", ".join(sorted(producers)) or "none"
                path = f"{entry.path}.parameters.{field.encode_name}"
                declarations.problem(path, f"no producer named {name!r}; there are: {known}")


def _in_order(declarations: Declarations, givers: dict[Need, Declared]) -> list[Declared]:
    """Depth first from the file's order, so that it stays the same as long as the file does."""
    done: list[Declared] = []
    open_: list[Declared] = []

    def visit(entry: Declared) -> None:
        if entry in done:
            return
        if entry in open_:
            circle = [*open_[open_.index(entry) :], entry]
            names = " -> ".join(item.name for item in circle)
            declarations.problem(entry.path, f"producers need each other in a circle: {names}")
            return
        open_.append(entry)
        plugin: Plugin | None = entry.plugin
        for need in plugin.wants() if plugin is not None else ():
            giver = givers.get(need)
            if giver is not None and giver is not entry:
                visit(giver)
        open_.pop()
        done.append(entry)

    for entry in declarations.of(Producer, AsyncProducer):
        visit(entry)
    return done
