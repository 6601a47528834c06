"""What a configuration leaves out: llm-d's order of defaulting, without its dice.

llm-d fills an omitted profile and an omitted picker in the order of a Go map, which differs from start to start; here
it is the order of the file, and two pickers to choose from are an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from epp.api import Filter, Picker, ProfileHandler, Scorer
from epp.config.plugin_set import Declarations, Declared
from epp.config.schema import ProfileEntry, ProfileSpec

DEFAULT_PROFILE: Final = "default"
DEFAULT_PICKER: Final = "max-score-picker"
DEFAULT_HANDLER: Final = "single-profile-handler"
DEFAULT_PARSERS: Final = ("openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser")
DEFAULT_SOURCE: Final = "metrics-data-source"
DEFAULT_EXTRACTOR: Final = "core-metrics-extractor"
DEFAULT_DETECTOR: Final = "utilization-detector"


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
