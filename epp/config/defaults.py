"""Defaults for what a configuration leaves out, those of llm-d's `applySystemDefaults` (pkg/epp/config/loader).

llm-d fills an omitted profile, and an omitted picker, in the iteration order of a Go map, which differs at every start.
Here the order is that of the file, and several pickers to choose from are an error.
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


def default_profile_specs(plugin_set: PluginSet) -> list[ProfileSpec]:
    """A single profile with every declared filter, scorer and picker, in file order (llm-d: ensureSchedulingLayer)."""
    entries = plugin_set.entries_of(Filter, Scorer, Picker)
    return [ProfileSpec(name=DEFAULT_PROFILE, plugins=[ProfilePluginRef(plugin_ref=entry.name) for entry in entries])]


def choose_default_picker(plugin_set: PluginSet, path: str) -> PluginEntry | None:
    """The picker of a profile that names none: the only one declared, or max-score-picker (ensureSchedulingLayer)."""
    pickers = plugin_set.entries_of(Picker)
    if len(pickers) > 1:
        names = ", ".join(entry.name for entry in pickers)
        plugin_set.add_problem(
            path, f"this profile has no picker and several are declared ({names}): add a pluginRef to one of them"
        )
        return None
    return pickers[0] if pickers else plugin_set.create_default(DEFAULT_PICKER, "the default picker")


def choose_profile_handler(plugin_set: PluginSet, profiles: Sequence[str]) -> PluginEntry | None:
    """The profile handler; for a single profile the default one if none is declared (ensureSchedulingLayer)."""
    handlers = plugin_set.entries_of(ProfileHandler)
    for extra in handlers[1:]:
        plugin_set.add_problem(
            extra.path, f"second profile handler: only one may be declared, and {handlers[0].path} is one"
        )
    if not handlers:
        if len(profiles) > 1:
            if any(entry.plugin_class is None for entry in plugin_set.entries()):
                return None  # a plugin of unknown type may be the handler; its type is the problem
            plugin_set.add_problem(
                "plugins", f"no profile handler is declared for the {len(profiles)} scheduling profiles"
            )
            return None
        handlers = [plugin_set.create_default(DEFAULT_PROFILE_HANDLER, "the default profile handler")]
    if handlers[0].plugin is not None:
        assert isinstance(handlers[0].plugin, ProfileHandler)
        try:
            messages = handlers[0].plugin.validate_profiles(profiles)
        except Exception as error:  # the handler may be of another package
            messages = f"raised in validate_profiles(): {error.__class__.__name__}: {error}"
        for message in [messages] if isinstance(messages, str) else messages:
            plugin_set.add_problem("schedulingProfiles", f"{handlers[0].name!r} {message}")
    return handlers[0]
