"""What Envoy sends on an ext_proc stream: the decoded message, and its decoding by protobuf without any cache."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import msgspec

from epp.errors import DecodeError
from epp.headers import (
    DESTINATION_ENDPOINT_SERVED,
    DESTINATION_ENDPOINT_SUBSET,
    LB_NAMESPACE,
    SUBSET_HINT_NAMESPACE,
)
from epp.pb import ext_proc_pb2 as pb
from epp.pb.core_pb2 import HeaderMap, Metadata


class MessageType(IntEnum):
    """The phase that a message is about; the numbers are those of the fields of Envoy's ProcessingRequest."""

    REQUEST_HEADERS = 2
    RESPONSE_HEADERS = 3
    REQUEST_BODY = 4
    RESPONSE_BODY = 5
    REQUEST_TRAILERS = 6
    RESPONSE_TRAILERS = 7


class BodyMode(IntEnum):
    """How Envoy sends a body: `ProcessingMode.BodySendMode` of ext_proc's processing_mode.proto."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4
    GRPC = 5


class ProcessingRequest(msgspec.Struct, gc=False):
    """One message from Envoy.

    `data` is the whole message as received. `headers` are set for headers messages: names in lower case, repeated
    values joined; `body` for body messages. `body_modes` are those of request and response, None unless the message
    carries a protocol_config, as a stream's first one does. `metadata` is None if empty; read it with
    `parse_subset_hint` and `parse_served_endpoint`. In `observability_mode` Envoy ignores every reply.
    """

    type: MessageType
    data: bytes
    end_of_stream: bool = False
    body: bytes = b""
    headers: dict[str, str] | None = None
    body_modes: tuple[BodyMode, BodyMode] | None = None
    metadata: Metadata | None = None
    observability_mode: bool = False


MessageContext = tuple[tuple[BodyMode, BodyMode] | None, Metadata | None, bool]
"""What a message says beside its phase: body modes, metadata and observability mode, as in `ProcessingRequest`."""

BODY_TYPES: Final = frozenset((MessageType.REQUEST_BODY, MessageType.RESPONSE_BODY))
HEADERS_TYPES: Final = frozenset((MessageType.REQUEST_HEADERS, MessageType.RESPONSE_HEADERS))
TYPE_BY_TAG: Final[Mapping[int, MessageType]] = {each << 3 | 2: each for each in BODY_TYPES | HEADERS_TYPES}
BODY_TAGS: Final = frozenset(bytes((each << 3 | 2,)) for each in BODY_TYPES)
_TYPE_BY_FIELD: Final[Mapping[str | None, MessageType]] = {each.name.lower(): each for each in MessageType}
_BODY_MODES: Final[Mapping[int, BodyMode]] = {mode.value: mode for mode in BodyMode}
_parse = pb.ProcessingRequest.FromString


def decode_with_protobuf(data: bytes) -> ProcessingRequest:
    """The message in whatever form protobuf allows; raises DecodeError."""
    try:
        message = _parse(data)
    except Exception as error:  # protobuf's C extension has no public type for its decode error
        raise DecodeError(f"not a ProcessingRequest: {error}") from error
    message_type = _TYPE_BY_FIELD.get(message.WhichOneof("request"))
    if message_type is None:
        raise DecodeError("a ProcessingRequest without headers, body or trailers")
    request = ProcessingRequest(message_type, data, observability_mode=message.observability_mode)
    if message_type in BODY_TYPES:
        body = message.response_body if message_type is MessageType.RESPONSE_BODY else message.request_body
        request.body = body.body
        request.end_of_stream = body.end_of_stream or body.end_of_stream_without_message
    elif message_type in HEADERS_TYPES:
        http = message.request_headers if message_type is MessageType.REQUEST_HEADERS else message.response_headers
        request.headers, request.end_of_stream = _parse_header_map(http.headers), http.end_of_stream
    if message.HasField("protocol_config"):
        request.body_modes = _parse_body_modes(message.protocol_config)
    request.metadata = _read_metadata(message)
    return request


def parse_message_context(rest: bytes) -> MessageContext | None:
    """The context in the fields after the phase; None if `rest` holds a phase too. Raises what protobuf raises."""
    message = _parse(rest)
    if message.WhichOneof("request") is not None:
        return None
    modes = _parse_body_modes(message.protocol_config) if message.HasField("protocol_config") else None
    return modes, _read_metadata(message), message.observability_mode


def serialize_http_body(request: ProcessingRequest) -> bytes:
    """The HttpBody of a body message with all its flags, as received."""
    message = _parse(request.data)
    body = message.response_body if request.type is MessageType.RESPONSE_BODY else message.request_body
    return body.SerializeToString()


def _read_metadata(message: pb.ProcessingRequest) -> Metadata | None:
    return message.metadata_context if message.metadata_context.filter_metadata else None


def _parse_body_modes(config: pb.ProtocolConfiguration) -> tuple[BodyMode, BodyMode]:
    """A mode that a later Envoy may add counts as full duplex, like the absence of a protocol_config."""
    request, response = config.request_body_mode, config.response_body_mode
    return _BODY_MODES.get(request, BodyMode.FULL_DUPLEX_STREAMED), _BODY_MODES.get(
        response, BodyMode.FULL_DUPLEX_STREAMED
    )


def _parse_header_map(message: HeaderMap) -> dict[str, str]:
    """Names in lower case. Repeated headers are joined by ", " (RFC 9110, 5.3), cookies by "; " (RFC 9113, 8.2.3)."""
    headers: dict[str, str] = {}
    for item in message.headers:
        name = item.key.lower()
        value = item.raw_value.decode("utf-8", "surrogateescape") or item.value
        if name in headers:
            value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
        headers[name] = value
    return headers


def count_header_bytes(headers: Mapping[str, str]) -> int:
    """Bytes of names and values."""
    return sum(len(name) + len(value.encode("utf-8", "surrogateescape")) for name, value in headers.items())


def parse_subset_hint(metadata: Metadata) -> tuple[str, ...] | None:
    """The endpoints to which the gateway restricts the choice (GAIE proposal 004); None if it sends no hint.

    Accepts a list, one string with commas (what Envoy's header_to_metadata filter writes), and list items with
    commas. A hint in any other form allows no endpoint: to ignore it would route outside the subset.
    """
    value = _find_metadata_value(metadata, SUBSET_HINT_NAMESPACE, DESTINATION_ENDPOINT_SUBSET)
    if value is None:
        return None
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        texts = [value.string_value]
    elif kind == "list_value":
        texts = [item.string_value for item in value.list_value.values]
    elif kind == "null_value":
        return None
    else:
        texts = []
    return tuple(item.strip() for text in texts for item in text.split(",") if item.strip())


def parse_served_endpoint(metadata: Metadata) -> str:
    """The `ip:port` that answered (GAIE proposal 004), empty if the gateway does not report it."""
    value = _find_metadata_value(metadata, LB_NAMESPACE, DESTINATION_ENDPOINT_SERVED)
    return "" if value is None else str(value.string_value)


def _find_metadata_value(metadata: Metadata, namespace: str, key: str) -> Any:
    if namespace not in metadata.filter_metadata:
        return None
    return metadata.filter_metadata[namespace].fields.get(key)
