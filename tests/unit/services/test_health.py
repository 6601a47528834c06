"""grpc.health.v1: Check, List and Watch."""

from __future__ import annotations

import pytest

from epp.pb import health_pb2
from epp.services import health

CHECK = "/grpc.health.v1.Health/Check"
LIST = "/grpc.health.v1.Health/List"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def encode_check(name: str) -> bytes:
    return health_pb2.HealthCheckRequest(service=name).SerializeToString()


def read_status(message: bytes) -> int:
    return health_pb2.HealthCheckResponse.FromString(message).status


@pytest.mark.parametrize(
    "name", ["", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor", "?"]
)
@pytest.mark.parametrize("ready", [True, False])
def test_check_answers_every_name_as_readiness(dial, name, ready):
    call = dial(health.health_methods(lambda: ready)[CHECK])(encode_check(name))
    assert [read_status(message) for message in call.sent] == [SERVING if ready else NOT_SERVING]
    assert call.status == 0


def test_liveness_is_serving_before_readiness(dial):
    call = dial(health.health_methods(lambda: False)[CHECK])(encode_check("liveness"))
    assert [read_status(message) for message in call.sent] == [SERVING]


def test_list_has_the_status_of_every_name(dial):
    call = dial(health.health_methods(lambda: False)[LIST])(b"")
    [listed] = [health_pb2.HealthListResponse.FromString(message) for message in call.sent]
    assert {name: each.status for name, each in listed.statuses.items()} == {
        name: SERVING if name == "liveness" else NOT_SERVING for name in health.SERVICE_NAMES
    }


def test_malformed_check_is_an_invalid_argument(dial):
    assert dial(health.health_methods(lambda: True)[CHECK])(b"\xff").status == 3


async def test_watch_sends_changes_only(dial, run_ready_tasks, tasks):
    state = {"ready": True}
    watch = dial(health.health_methods(lambda: state["ready"], tasks, interval=0)[WATCH])
    call = watch(encode_check(""))
    await run_ready_tasks()
    assert [read_status(message) for message in call.sent] == [SERVING]
    state["ready"] = False
    await run_ready_tasks()
    await run_ready_tasks()
    assert [read_status(message) for message in call.sent] == [SERVING, NOT_SERVING]
    watch.handler.on_half_close()
    state["ready"] = True
    await run_ready_tasks()
    assert len(call.sent) == 3
    watch.handler.on_cancel()
    await run_ready_tasks()
    assert not len(tasks)


async def test_watch_of_liveness_sends_one_status(dial, run_ready_tasks, tasks):
    call = dial(health.health_methods(lambda: False, tasks, interval=0)[WATCH])(encode_check("liveness"))
    await run_ready_tasks()
    assert [read_status(message) for message in call.sent] == [SERVING]
    assert call.status is None


async def test_watch_without_a_request_is_an_invalid_argument(dial, tasks):
    watch = dial(health.health_methods(lambda: True, tasks)[WATCH])
    watch.handler.on_half_close()
    assert watch().status == 3
    assert not len(tasks)


async def test_malformed_watch_is_an_invalid_argument(dial, tasks):
    assert dial(health.health_methods(lambda: True, tasks)[WATCH])(b"\xff").status == 3
    assert not len(tasks)
