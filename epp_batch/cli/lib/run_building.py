"""Steps that `submit` and `transcribe` share: read the sources, build the run, explain an output folder that fails."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from epp.clock import Clock
from epp_batch import intake
from epp_batch.cli.lib import source_flags
from epp_batch.errors import FailureKind, FolderError
from epp_batch.output_folder import OutputFolder, load_struct
from epp_batch.spec import ClusterOptions, Run, Unit
from epp_batch.worker.failures import DISK_FULL_ERRNOS


def gather_sources(args: argparse.Namespace, folder: OutputFolder, *, save_cache: bool = True) -> intake.IntakeResult:
    """Finds, opens and hashes the recordings of the sources; prints its progress on a terminal.

    All flags are checked first: InputError comes before hours of audio are read. `save_cache` keeps the digests for the
    next call.
    """
    source_flags.parse_whisper_options(args)
    source_flags.choose_run_name(args.run_name, folder)
    intake.ModelRules(args.model, args.default_model)
    return intake.gather_recordings(
        args.sources,
        folder,
        relative_to=args.relative_to,
        references=args.references,
        probe_lengths=not args.no_probe,
        save_cache=save_cache,
        on_progress=_print_progress if sys.stderr.isatty() else None,
    )


def build_run(
    args: argparse.Namespace,
    folder: OutputFolder,
    gathered: intake.IntakeResult,
    clock: Clock,
    *,
    build_cluster: Callable[[set[str]], ClusterOptions] | None = None,
    arrange: Callable[[list[Unit]], list[Unit]] | None = None,
) -> Run:
    """The run of these recordings and flags. Units that the folder's previous run had keep their names.

    `build_cluster` makes the options of Jobs from the set of models; `arrange` the order for `--order slots`.
    """
    options = source_flags.parse_whisper_options(args)
    name = source_flags.choose_run_name(args.run_name, folder)
    rules = intake.ModelRules(args.model, args.default_model, gathered.models_by_stem)
    if unknown := rules.count_unknown_lengths(gathered.recordings):
        print(
            f"epp-batch {args.command}: {unknown} recordings of unknown length: rules by length do not match them",
            file=sys.stderr,
        )
    previous = load_struct(folder.run_file, Run)
    units = intake.build_units(
        gathered.recordings,
        rules,
        options,
        run=name,
        order=args.order,
        shard_seconds=args.shard_seconds,
        previous=previous.units if previous is not None else (),
        arrange=arrange,
    )
    return Run(
        name=name,
        output=str(folder.root),
        options=options,
        units=tuple(units),
        cluster=build_cluster({unit.model for unit in units}) if build_cluster is not None else None,
        created=clock.wall(),
        fetch_model=args.fetch_model,
        max_seconds=args.max_seconds,
    )


def folder_error(error: OSError, folder: OutputFolder) -> FolderError:
    """The FolderError for an operating system error in the output folder, with the remedy for a full disk."""
    remedy = "give a writable output folder"
    if error.errno in DISK_FULL_ERRNOS:
        remedy = FailureKind.DISK_FULL.remedy
    return FolderError(f"{error.filename or folder.root}: {error.strerror}", remedy=remedy)


def _print_progress(done: int, total: int) -> None:
    print(f"\rread {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
