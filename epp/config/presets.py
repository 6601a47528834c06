"""Configurations that come with the picker, by name; the folder `presets` has their texts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from epp.errors import ConfigError, Problem

DEFAULT_PRESET = "default"


def preset_names() -> Sequence[str]:
    """Names that `read_preset` accepts, sorted."""
    folder = files("epp.config") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_preset(name: str = DEFAULT_PRESET) -> str:
    """The text of a preset; ConfigError for an unknown name."""
    if name not in preset_names():
        raise ConfigError([Problem("", f"unknown preset {name!r}; available: {', '.join(preset_names())}")])
    return (files("epp.config") / "presets" / f"{name}.yaml").read_text("utf-8")
