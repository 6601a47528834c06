"""Which run a command is about: an output folder, or a name in a namespace where the folder is elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from epp_batch.errors import InputError

if TYPE_CHECKING:
    from epp_batch.kube.client import ApiClient
    from epp_batch.output_folder import OutputFolder
    from epp_batch.spec import Run


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """OUTPUT, or --run with --namespace."""
    from epp_batch.cli.lib import job_flags

    parser.add_argument("folder", nargs="?", metavar="OUTPUT", help="the output folder that the run was submitted with")
    parser.add_argument("--run", dest="run_name", metavar="NAME", help="the run's name, where its folder is not here")
    job_flags.add_connection_flags(parser)


class RunTarget(NamedTuple):
    """A run on a cluster. `run` and `folder` are None where only its name is known."""

    name: str
    namespace: str
    run: Run | None
    folder: OutputFolder | None


def find_local_run(args: argparse.Namespace) -> tuple[Run, OutputFolder] | None:
    """The folder's run; None where a name was given instead. InputError for neither, FolderError for no run there."""
    from epp_batch.output_folder import OutputFolder

    if args.folder is None:
        if args.run_name is None:
            raise InputError("no run given", remedy="give its output folder, or --run NAME and --namespace")
        return None
    folder = OutputFolder(args.folder)
    return folder.load_run(), folder


def resolve_target(args: argparse.Namespace, client: ApiClient) -> RunTarget:
    """The run that the flags name. InputError for a run that is not on a cluster."""
    found = find_local_run(args)
    if found is None:
        return RunTarget(args.run_name, args.namespace or client.namespace, None, None)
    run, folder = found
    if run.cluster is None:
        raise InputError(
            f"{folder.root}: this run is on no cluster", remedy="it runs where `epp-batch transcribe` does"
        )
    return RunTarget(run.name, run.cluster.namespace, run, folder)


def run_on_cluster(args: argparse.Namespace, work: Callable[[ApiClient], Awaitable[int]]) -> int:
    """Runs `work` with a connection; SIGTERM ends it like Ctrl-C. The exit code is the work's."""
    from epp_batch.kube.client import open_client

    find_local_run(args)  # before a connection is tried

    async def connected() -> int:
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        async with open_client(args.kubeconfig, args.context) as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
