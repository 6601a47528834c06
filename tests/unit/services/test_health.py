from __future__ import annotations

import pytest

from epp.pb import health_pb2
from epp.services import health

CHECK = "/grpc.health.v1.Health/Check"
LIST = "/grpc.health.v1.Health/List"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def ask(name: str) -> bytes:
    return health_pb2.HealthCheckRequest(service=name).SerializeToString()


def status(message: bytes) -> int:
    return health_pb2.HealthCheckResponse.FromString(message).status


@pytest.mark.parametrize(
    "name", ["", "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor", "?"]
)
@pytest.mark.parametrize("ready", [True, False])
def test_every_name_is_answered_as_readiness(dial, name, ready):
    call = dial(health.health_methods(lambda: ready)[CHECK])(ask(name))
    assert [status(message) for message in call.sent] == [SERVING if ready else NOT_SERVING]
    assert call.status == 0


def test_who_is_not_ready_is_alive(dial):
    call = dial(health.health_methods(lambda: False)[CHECK])(ask("liveness"))
    assert [status(message) for message in call.sent] == [SERVING]


def test_all_names_at_once(dial):
    call = dial(health.health_methods(lambda: False)[LIST])(b"")
    [listed] = [health_pb2.HealthListResponse.FromString(message) for message in call.sent]
    assert {name: each.status for name, each in listed.statuses.items()} == {
        name: SERVING if name == "liveness" else NOT_SERVING for name in health.SERVICE_NAMES
    }


def test_nonsense_is_an_invalid_argument(dial):
    assert dial(health.health_methods(lambda: True)[CHECK])(b"\xff").status == 3


async def test_a_watcher_hears_of_changes_only(dial, settled, tasks):
    state = {"ready": True}
    watch = dial(health.health_methods(lambda: state["ready"], tasks, interval=0)[WATCH])
    call = watch(ask(""))
    await settled()
    assert [status(message) for message in call.sent] == [SERVING]
    state["ready"] = False
    await settled()
    await settled()
    assert [status(message) for message in call.sent] == [SERVING, NOT_SERVING]
    watch.handler.on_half_close()
    state["ready"] = True
    await settled()
    assert len(call.sent) == 3
    watch.handler.on_cancel()
    await settled()
    assert not len(tasks)


async def test_a_watcher_of_liveness_hears_once(dial, settled, tasks):
    call = dial(health.health_methods(lambda: False, tasks, interval=0)[WATCH])(ask("liveness"))
    await settled()
    assert [status(message) for message in call.sent] == [SERVING]
    assert call.status is None


async def test_a_watcher_that_never_asks(dial, tasks):
    watch = dial(health.health_methods(lambda: True, tasks)[WATCH])
    watch.handler.on_half_close()
    assert watch().status == 3
    assert not len(tasks)


async def test_a_watcher_that_asks_nonsense(dial, tasks):
    assert dial(health.health_methods(lambda: True, tasks)[WATCH])(b"\xff").status == 3
    assert not len(tasks)
