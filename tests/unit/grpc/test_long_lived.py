"""A drain does not wait for streams that no client ends."""

from __future__ import annotations

import pytest

from epp.grpc.long_lived import LongLivedRpcs
from epp.pb import health_pb2
from epp.services import access_log, health
from epp.tasks import Tasks

WATCH = "/grpc.health.v1.Health/Watch"


def test_log_streams_stand_until_they_are_ended(dial):
    standing = LongLivedRpcs()
    method = access_log.access_log_methods(lambda entry: None, standing)[access_log.STREAM_ACCESS_LOGS_METHOD]
    ended, lost, kept = dial(method), dial(method), dial(method)
    assert len(standing) == 3
    ended.handler.on_half_close()
    lost.handler.on_cancel()
    assert len(standing) == 1
    standing.finish_all()
    assert len(standing) == 0
    assert [stream.call.status for stream in (ended, lost, kept)] == [0, None, 0]


def test_a_log_stream_that_is_refused_does_not_stand(dial):
    standing = LongLivedRpcs()
    method = access_log.access_log_methods(lambda entry: None, standing)[access_log.STREAM_ACCESS_LOGS_METHOD]
    assert dial(method)(b"\xff").status == 3
    assert len(standing) == 0


@pytest.mark.parametrize("how", ["ended", "lost"])
async def test_a_watch_stands_and_its_task_ends_with_it(dial, settled, how):
    standing, tasks = LongLivedRpcs(), Tasks("t")
    watch = dial(health.health_methods(lambda: True, tasks, standing)[WATCH])
    watch(health_pb2.HealthCheckRequest(service="readiness").SerializeToString())
    await settled()
    assert (len(standing), len(tasks), len(watch.call.sent)) == (1, 1, 1)
    if how == "ended":
        standing.finish_all()
    else:
        watch.handler.on_cancel()
    await settled()
    assert (len(standing), len(tasks)) == (0, 0)
    assert watch.call.status == (0 if how == "ended" else None)
