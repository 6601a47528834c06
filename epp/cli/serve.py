"""`epp serve`: runs one endpoint picker until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
from pathlib import Path

import uvloop

from epp.allocator import retain_freed_memory
from epp.cli import flags
from epp.config import loader, presets
from epp.config.plan import PickerPlan
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError, Problem
from epp.obs import logs
from epp.picker import EndpointPicker

log = logging.getLogger("epp.cli.serve")

GC_THRESHOLDS = (50_000, 20, 100)
"""Of the garbage collector: Python's default (700) would run it several times for each long request."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `epp serve`."""
    flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    warnings = flags.complete_flags(arguments, os.environ)
    logs.configure_logging(
        verbosity=arguments.v,
        level=arguments.zap_log_level,
        encoder=arguments.zap_encoder,
        devel=arguments.zap_devel,
        time_encoding=arguments.zap_time_encoding,
    )
    retain_freed_memory()
    plan, source = load_plan(arguments)
    for warning in (*warnings, *map(str, plan.warnings)):
        log.warning(warning)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_until_signal(EndpointPicker(arguments, plan, source)))
    return 0


def load_plan(arguments: argparse.Namespace) -> tuple[PickerPlan, str]:
    """The plan of `--config-file` or `--config-text` (a text or a preset's name), and what messages call its source."""
    source, text = "preset default", presets.read_preset()
    if arguments.config_file:
        source = arguments.config_file
        try:
            text = Path(source).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([Problem("--config-file", f"{source} cannot be read: {error}")]) from error
    elif arguments.config_text in presets.preset_names():
        source, text = f"preset {arguments.config_text}", presets.read_preset(arguments.config_text)
    elif arguments.config_text:
        source, text = "--config-text", arguments.config_text
    allowed = arguments.allow_experimental_plugins
    return loader.load_config(text, PluginRegistry.load(), source=source, allow_experimental=allowed), source


async def _serve_until_signal(picker: EndpointPicker) -> None:
    """Serves until the first signal, then drains; a second signal ends the drain at once."""
    loop = asyncio.get_running_loop()
    drain_requested, stop_requested = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (stop_requested if drain_requested.is_set() else drain_requested).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await picker.start()
        gc.collect()
        gc.freeze()  # objects created at start live as long as the process: no collection needs to visit them
        gc.set_threshold(*GC_THRESHOLDS)
        await drain_requested.wait()
        drain = picker.tasks.spawn("drain", picker.drain())
        stop = picker.tasks.spawn("stop", stop_requested.wait())
        await asyncio.wait({drain, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await picker.close()
