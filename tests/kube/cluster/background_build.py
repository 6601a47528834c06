"""Builds the control plane in a process of the lowest priority, beside tests that do not need it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.kube.cluster.processes import dies_with_parent
from tests.kube.tools import build

_POLL = 0.2
_ROOT = Path(__file__).resolve().parents[3]


class BackgroundBuild:
    """`tools/build.py` as a process, with its output in the file `log`."""

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", build.__name__],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_lower_priority(),  # noqa: PLW1509 -- system calls only, nothing that a lock could hold
            )

    def wait(self, log_progress: Callable[[str], None]) -> None:
        """Returns when all is built. Calls `log_progress` with each line of output as it comes; raises BuildError."""
        with self._log.open() as lines:
            code = None
            while code is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = self._process.wait(_POLL)
                for line in lines:
                    log_progress(line.rstrip("\n"))
        if code:
            raise build.BuildError("its output above has the reason")

    def close(self) -> None:
        """Stops the build and its compilers. Finished objects stay in the cache for the next build."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()


def _lower_priority() -> Callable[[], None]:
    """A `preexec_fn`: the lowest priority, and SIGTERM when the parent ends."""
    set_death_signal = dies_with_parent(signal.SIGTERM)

    def prepare_child() -> None:
        set_death_signal()
        _set_priority(os.getpid(), 19)

    return prepare_child


def _set_priority(leader: int, value: int) -> None:
    """Sets the nice value of a session leader and its group; under autogroup scheduling only the group's counts."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{leader}/autogroup").write_text(str(value))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, leader, value)
