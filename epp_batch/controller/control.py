"""Requests of other commands to the driver of a run, and the lock that makes it the only one: two files in its folder.

OUTPUT/.epp-batch/control.json   RunControl; written by `pause`, `resume` and `cancel`, read by the driver
OUTPUT/.epp-batch/lock           flock(2)ed while a driver is alive; the kernel releases it when the process ends
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
    """The last request; it holds until the next one."""

    state: ControlState = "go"
    at: float = 0.0
    """Wall seconds since 1970."""


def read_control(folder: OutputFolder) -> RunControl:
    return load_struct(folder.run_file.with_name("control.json"), RunControl) or RunControl()


def write_control(folder: OutputFolder, control: RunControl) -> None:
    save_struct(folder.run_file.with_name("control.json"), control)


@contextlib.contextmanager
def lock_folder(folder: OutputFolder) -> Iterator[bool]:
    """Locks a folder for a `with` block. Yields False if another process holds the lock.

    A file system without locks (some network file systems) yields True: the caller cannot be kept out there.
    """
    path = folder.run_file.with_name("lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            yield error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
            return
        yield True
