"""Our trimmed protos against Envoy's: a field with another number or type would be ignored without an error."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor

from epp.pb import (
    access_log_pb2,
    access_log_service_pb2,
    core_pb2,
    ext_proc_pb2,
    health_pb2,
    http_status_pb2,
    processing_mode_pb2,
)

HERE = Path(__file__).parent
ENVOYS = (
    access_log_pb2, access_log_service_pb2, core_pb2, ext_proc_pb2, http_status_pb2, processing_mode_pb2,
)  # fmt: skip
# No package that we depend on contains grpc.health.v1; these are the field numbers of grpc-proto's health.proto.
HEALTH = {
    "HealthCheckRequest": {"service": (1, "STRING", "")},
    "HealthCheckResponse": {"status": (1, "ENUM", "grpc.health.v1.HealthCheckResponse.ServingStatus")},
    "HealthListRequest": {},
    "HealthListResponse": {"statuses": (1, "MESSAGE", "grpc.health.v1.HealthListResponse.StatusesEntry")},
}


def load_described() -> ModuleType:
    """described.py, which published.py imports too."""
    spec = importlib.util.spec_from_file_location("described", HERE / "described.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_names(file: FileDescriptor) -> Iterable[str]:
    """The full names of all messages, enums and services of the file."""
    for message in file.message_types_by_name.values():
        yield from _list_nested(message)
    yield from (enum.full_name for enum in file.enum_types_by_name.values())
    yield from (service.full_name for service in file.services_by_name.values())


def _list_nested(message: Descriptor) -> Iterable[str]:
    yield message.full_name
    yield from (enum.full_name for enum in message.enum_types)
    for inner in message.nested_types:
        yield from _list_nested(inner)


OURS = [name for module in ENVOYS for name in list_names(module.DESCRIPTOR)]


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", str(HERE / "published.py"), *OURS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", OURS)
def test_messages_have_envoys_numbers_and_types(name: str, published: dict[str, Any]) -> None:
    ours, theirs = load_described().describe(descriptor_pool.Default(), name), published[name]
    assert theirs is not None, f"Envoy has no {name}"
    assert ours == {member: theirs.get(member, "missing in Envoy's") for member in ours}


def test_every_phase_of_envoy_is_known(published: dict[str, Any]) -> None:
    """Other fields may be left out; a message with an unknown phase would get no reply."""
    name = "envoy.service.ext_proc.v3.ProcessingRequest"
    phases = {member for member, field in published[name].items() if field["oneof"] == "request"}
    assert phases == {
        field.name for field in ext_proc_pb2.ProcessingRequest.DESCRIPTOR.oneofs_by_name["request"].fields
    }


def test_health_has_the_numbers_of_grpc_proto() -> None:
    messages = health_pb2.DESCRIPTOR.message_types_by_name
    types = {"STRING": 9, "ENUM": 14, "MESSAGE": 11}
    found = load_described()
    for name, fields in HEALTH.items():
        ours = found.describe(descriptor_pool.Default(), messages[name].full_name)
        expected = {field: (number, types[kind], of) for field, (number, kind, of) in fields.items()}
        assert {field: (row["number"], row["type"], row["of"]) for field, row in ours.items()} == expected
    status = health_pb2.HealthCheckResponse.ServingStatus
    assert dict(status.items()) == {"UNKNOWN": 0, "SERVING": 1, "NOT_SERVING": 2, "SERVICE_UNKNOWN": 3}
    service = found.describe(descriptor_pool.Default(), "grpc.health.v1.Health")
    assert {name: (row["client streaming"], row["server streaming"]) for name, row in service.items()} == {
        "Check": (False, False), "Watch": (False, True), "List": (False, False),
    }  # fmt: skip
