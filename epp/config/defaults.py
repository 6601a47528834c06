"""What a configuration leaves out: llm-d's order of defaulting, without its dice.

llm-d fills an omitted profile and an omitted picker in the order of a Go map, which differs from start to start; here
it is the order of the file, and two pickers to choose from are an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from epp.api import Filter, Picker, ProfileHandler, Scorer
from epp.config.plugin_set import PluginEntry, PluginSet
from epp.config.schema import ProfilePluginRef, ProfileSpec

DEFAULT_PROFILE: Final = "default"
DEFAULT_PICKER: Final = "max-score-picker"
DEFAULT_PROFILE_HANDLER: Final = "single-profile-handler"
DEFAULT_PARSERS: Final = ("openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser")
DEFAULT_DATA_SOURCE: Final = "metrics-data-source"
DEFAULT_EXTRACTOR: Final = "core-metrics-extractor"
DEFAULT_SATURATION_DETECTOR: Final = "utilization-detector"


def default_profile_specs(declarations: PluginSet) -> list[ProfileSpec]:
    """One profile of every declared filter, scorer and picker, in file order."""
    found = declarations.entries_of(Filter, Scorer, Picker)
    return [ProfileSpec(name=DEFAULT_PROFILE, plugins=[ProfilePluginRef(plugin_ref=entry.name) for entry in found])]


def choose_default_picker(declarations: PluginSet, path: str) -> PluginEntry | None:
    """The picker of a profile that names none: the only one declared, else the best score."""
    pickers = declarations.entries_of(Picker)
    if len(pickers) > 1:
        names = ", ".join(entry.name for entry in pickers)
        declarations.add_problem(path, f"names no picker, and several are declared ({names}): name one")
        return None
    return pickers[0] if pickers else declarations.create_default(DEFAULT_PICKER, "the default picker")


def choose_profile_handler(declarations: PluginSet, profiles: Sequence[str]) -> PluginEntry | None:
    """The one profile handler; with a single profile it may be left out."""
    handlers = declarations.entries_of(ProfileHandler)
    for extra in handlers[1:]:
        declarations.add_problem(extra.path, f"a second profile handler; {handlers[0].path} is one already")
    if not handlers:
        if len(profiles) > 1:
            if any(entry.plugin_class is None for entry in declarations.entries()):
                return None  # one of those that are not known may have been meant
            declarations.add_problem("plugins", f"no profile handler for the {len(profiles)} scheduling profiles")
            return None
        handlers = [declarations.create_default(DEFAULT_PROFILE_HANDLER, "the default profile handler")]
    if handlers[0].plugin is not None:
        assert isinstance(handlers[0].plugin, ProfileHandler)
        for objection in handlers[0].plugin.validate_profiles(profiles):
            declarations.add_problem("schedulingProfiles", f"{handlers[0].name!r} {objection}")
    return handlers[0]
