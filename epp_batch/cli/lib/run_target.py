"""The run that a command is for: an output folder, or a name and a namespace if the folder is on another machine."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from epp_batch.cli.lib import job_flags
from epp_batch.errors import InputError
from epp_batch.kube.client import ApiClient, open_client
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import Run


class RunTarget(NamedTuple):
    """A run on a cluster. `run` and `folder` are None if only its name is known."""

    name: str
    namespace: str
    run: Run | None
    folder: OutputFolder | None


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """OUTPUT, or --run with --namespace."""
    parser.add_argument("folder", nargs="?", metavar="OUTPUT", help="the output folder that the run was submitted with")
    parser.add_argument(
        "--run", dest="run_name", metavar="NAME", help="name of the run, if its folder is on another machine"
    )
    job_flags.add_connection_flags(parser)


def find_local_run(args: argparse.Namespace) -> tuple[Run, OutputFolder] | None:
    """The run of the OUTPUT folder; None if a name was given instead.

    Raises InputError without either, FolderError if the folder has no run.
    """
    if args.folder is None:
        if args.run_name is None:
            raise InputError("no run given", remedy="give its output folder, or --run NAME and --namespace")
        return None
    folder = OutputFolder(args.folder)
    return folder.load_run(), folder


def resolve_target(args: argparse.Namespace, client: ApiClient) -> RunTarget:
    """The run that the flags name. Raises InputError for a run of `transcribe`."""
    local = find_local_run(args)
    if local is None:
        return RunTarget(args.run_name, args.namespace or client.namespace, None, None)
    run, folder = local
    if run.cluster is None:
        remedy = "it runs on the machine where `epp-batch transcribe` was called"
        raise InputError(f"{folder.root}: this run is not on a cluster", remedy=remedy)
    return RunTarget(run.name, run.cluster.namespace, run, folder)


def run_on_cluster(args: argparse.Namespace, command: Callable[[ApiClient], Awaitable[int]]) -> int:
    """Runs `command` with a connected client; returns its exit code, or 143 after SIGTERM, which cancels it."""
    find_local_run(args)  # errors in the arguments come before errors of the connection

    async def run_command() -> int:
        this_task = asyncio.current_task()
        assert this_task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this_task.cancel)
        async with open_client(args.kubeconfig, args.context) as client:
            return await command(client)

    try:
        return asyncio.run(run_command())
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
