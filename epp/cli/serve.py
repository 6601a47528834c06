"""`epp serve`: reads flags and configuration, runs one picker until it is told to stop."""

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
    """The plan of `--config-file` or `--config-text` (a text or a preset's name), and what to call it."""
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
    registry = PluginRegistry.load()
    return loader.load_config(
        text, registry, source=source, allow_experimental=arguments.allow_experimental_plugins
    ), source


async def _serve_until_signal(service: EndpointPicker) -> None:
    """Until the first signal; a second one ends the drain."""
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    try:
        await service.start()
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        gc.set_threshold(*GC_THRESHOLDS)
        await stop.wait()
        draining = service.tasks.spawn("drain", service.drain())
        await asyncio.wait({draining, service.tasks.spawn("hurry", hurry.wait())}, return_when="FIRST_COMPLETED")
    finally:
        await service.close()
