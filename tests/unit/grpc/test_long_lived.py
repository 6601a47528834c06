"""Access log streams and health watches register as long-lived RPCs."""

from __future__ import annotations

import pytest

from epp.grpc.long_lived import LongLivedRpcs
from epp.pb import health_pb2
from epp.services import access_log, health
from epp.tasks import Tasks

WATCH = "/grpc.health.v1.Health/Watch"


def test_access_log_streams_are_registered_until_they_end(dial):
    long_lived = LongLivedRpcs()
    method = access_log.access_log_methods(lambda entry: None, long_lived)[access_log.STREAM_ACCESS_LOGS_METHOD]
    half_closed, cancelled, kept = dial(method), dial(method), dial(method)
    assert len(long_lived) == 3
    half_closed.handler.on_half_close()
    cancelled.handler.on_cancel()
    assert len(long_lived) == 1
    long_lived.finish_all()
    assert len(long_lived) == 0
    assert [stream.call.status for stream in (half_closed, cancelled, kept)] == [0, None, 0]


def test_a_rejected_access_log_stream_is_not_registered(dial):
    long_lived = LongLivedRpcs()
    method = access_log.access_log_methods(lambda entry: None, long_lived)[access_log.STREAM_ACCESS_LOGS_METHOD]
    assert dial(method)(b"\xff").status == 3
    assert len(long_lived) == 0


@pytest.mark.parametrize("end", ["finish", "cancel"])
async def test_a_health_watch_is_registered_and_its_task_ends_with_it(dial, run_ready_tasks, end):
    long_lived, tasks = LongLivedRpcs(), Tasks("t")
    watch = dial(health.health_methods(lambda: True, tasks, long_lived)[WATCH])
    watch(health_pb2.HealthCheckRequest(service="readiness").SerializeToString())
    await run_ready_tasks()
    assert (len(long_lived), len(tasks), len(watch.call.sent)) == (1, 1, 1)
    if end == "finish":
        long_lived.finish_all()
    else:
        watch.handler.on_cancel()
    await run_ready_tasks()
    assert (len(long_lived), len(tasks)) == (0, 0)
    assert watch.call.status == (0 if end == "finish" else None)
