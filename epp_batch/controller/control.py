"""What a person asked of a run from another terminal, and who drives it: two small files beside the run.

OUTPUT/.epp-batch/control.json   Control; written by pause, resume and cancel, read by the driver
OUTPUT/.epp-batch/lock           locked while a driver lives; the system unlocks it when that one is killed
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from typing import Literal

import msgspec

from epp_batch.output_folder import OutputFolder, load_struct, save_struct

ControlState = Literal["go", "paused", "cancelled"]


class RunControl(msgspec.Struct, frozen=True, kw_only=True):
    """What holds until it is changed."""

    state: ControlState = "go"
    at: float = 0.0
    """Wall seconds since 1970."""


def read_control(folder: OutputFolder) -> RunControl:
    return load_struct(folder.run_file.with_name("control.json"), RunControl) or RunControl()


def write_control(folder: OutputFolder, control: RunControl) -> None:
    save_struct(folder.run_file.with_name("control.json"), control)


@contextlib.contextmanager
def lock_folder(folder: OutputFolder) -> Iterator[bool]:
    """True inside for the one driver of a folder; False while another lives. A disk without locks says True."""
    path = folder.run_file.with_name("lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            yield error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
            return
        yield True
