"""Deadlines: time limit and stop request."""

from __future__ import annotations

import threading

import pytest

from epp.clock import ManualClock
from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.worker.deadline import Deadline


def test_deadline_expires():
    clock = ManualClock()
    deadline = Deadline(clock, threading.Event(), "a.wav", 5.0)
    clock.advance(4.9)
    deadline.check(TaskStage.DECODE)
    clock.advance(0.1)
    with pytest.raises(TaskError, match="not finished after 5 s") as caught:
        deadline.check(TaskStage.DECODE)
    assert caught.value.kind is FailureKind.TIMEOUT


def test_stopped_deadline_does_not_wait():
    stop = threading.Event()
    stop.set()
    with pytest.raises(TaskError) as caught:
        Deadline(ManualClock(), stop, "a.wav").wait(1000.0, TaskStage.DOWNLOAD)
    assert caught.value.kind is FailureKind.STOPPED
