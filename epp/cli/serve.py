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

from epp.allocator import keep_freed_memory
from epp.cli import flags
from epp.config import loader, presets
from epp.config.plan import Plan
from epp.config.registry import Registry
from epp.errors import ConfigError, Problem
from epp.obs import logs
from epp.picker import Service

log = logging.getLogger("epp.cli.serve")

GC_THRESHOLDS = (50_000, 20, 100)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `epp serve`."""
    flags.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    warnings = flags.check(arguments, os.environ)
    logs.configure(
        verbosity=arguments.v,
        level=arguments.zap_log_level,
        encoder=arguments.zap_encoder,
        devel=arguments.zap_devel,
        time_encoding=arguments.zap_time_encoding,
    )
    keep_freed_memory()
    plan, source = read_plan(arguments)
    for warning in (*warnings, *map(str, plan.warnings)):
        log.warning(warning)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Service(arguments, plan, source)))
    return 0


def read_plan(arguments: argparse.Namespace) -> tuple[Plan, str]:
    """The plan of `--config-file` or `--config-text` (a text or a preset's name), and what to call it."""
    source, text = "preset default", presets.text()
    if arguments.config_file:
        source = arguments.config_file
        try:
            text = Path(source).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([Problem("--config-file", f"{source} cannot be read: {error}")]) from error
    elif arguments.config_text in presets.names():
        source, text = f"preset {arguments.config_text}", presets.text(arguments.config_text)
    elif arguments.config_text:
        source, text = "--config-text", arguments.config_text
    registry = Registry.load()
    return loader.load(text, registry, source=source, allow_experimental=arguments.allow_experimental_plugins), source


async def _serve(service: Service) -> None:
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
