"""Configurations that come with the picker."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from epp.errors import ConfigError, Problem

DEFAULT_PRESET = "default"


def preset_names() -> Sequence[str]:
    """What `text` knows."""
    folder = files("epp.config") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_preset(name: str = DEFAULT_PRESET) -> str:
    """The preset as configuration text."""
    if name not in preset_names():
        raise ConfigError([Problem("", f"no preset named {name!r}; there are: {', '.join(preset_names())}")])
    return (files("epp.config") / "presets" / f"{name}.yaml").read_text("utf-8")
