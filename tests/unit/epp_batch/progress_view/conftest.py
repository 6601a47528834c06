"""A status of a run, and a failure with the line that views print for it."""

from __future__ import annotations

import msgspec

from epp_batch.output_folder import TaskFailure
from epp_batch.progress_view import RunStatus
from epp_batch.progress_view.run_tracker import RunningUnit

FAILURE = TaskFailure(
    key="k",
    source="a.wav",
    stage="pod",
    kind="killed",
    message="exit code 137",
    remedy="raise --memory",
    permanent=False,
)


LINE = "a.wav: pod: exit code 137; raise --memory"


def make_status(**changes: object) -> RunStatus:
    status = RunStatus(
        run="r",
        at=1000.0,
        recordings=4,
        phases={"done": 1, "running": 1, "queued": 2},
        preempted=1,
        evicted=2,
        retried=0,
        audio_total=400.0,
        audio_done=130.0,
        unknown_lengths=0,
        elapsed=10.0,
        speed=13.0,
        eta=20.8,
        position=3,
        running=(RunningUnit(unit="r-1", stem="calls/a", place="n1", since=940.0, audio_done=30.0, audio_total=100.0),),
        troubles=("waits in its queue: no quota (2 Jobs)",),
    )
    return msgspec.structs.replace(status, **changes)
