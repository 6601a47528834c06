"""Protobuf descriptors as plain data, which two processes can compare."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool


def describe(pool: DescriptorPool, name: str) -> dict[str, Any] | None:
    """The message, enum or service of this full name; None if the pool has none."""
    for find, form in (
        (pool.FindMessageTypeByName, _describe_message),
        (pool.FindEnumTypeByName, _describe_enum),
        (pool.FindServiceByName, _describe_service),
    ):
        try:
            found = find(name)
        except KeyError:
            continue
        return form(found)
    return None


def _describe_message(message: Descriptor) -> dict[str, Any]:
    return {field.name: _describe_field(field) for field in message.fields}


def _describe_field(field: FieldDescriptor) -> dict[str, Any]:
    kind = field.message_type or field.enum_type
    return {
        "number": field.number,
        "type": field.type,
        "repeated": field.is_repeated,
        "presence": field.has_presence,
        "packed": field.is_packed,
        "of": kind.full_name if kind else "",
        "oneof": field.containing_oneof.name if field.containing_oneof else "",
    }


def _describe_enum(enum: EnumDescriptor) -> dict[str, Any]:
    return {value.name: value.number for value in enum.values}


def _describe_service(service: ServiceDescriptor) -> dict[str, Any]:
    return {
        method.name: {
            "input": method.input_type.full_name,
            "output": method.output_type.full_name,
            "client streaming": method.client_streaming,
            "server streaming": method.server_streaming,
        }
        for method in service.methods
    }
