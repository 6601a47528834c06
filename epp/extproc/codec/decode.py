"""What Envoy sends on an ext_proc stream."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

import msgspec

from epp.errors import DecodeError
from epp.extproc.codec import wire
from epp.extproc.codec.header_cache import HeaderBlockCache
from epp.headers import (
    DESTINATION_ENDPOINT_SERVED,
    DESTINATION_ENDPOINT_SUBSET,
    LB_NAMESPACE,
    SUBSET_HINT_NAMESPACE,
)
from epp.pb import ext_proc_pb2 as pb
from epp.pb.core_pb2 import HeaderMap, Metadata


class MessageType(IntEnum):
    """What Envoy sent; the numbers are those of the fields of ProcessingRequest."""

    REQUEST_HEADERS = 2
    RESPONSE_HEADERS = 3
    REQUEST_BODY = 4
    RESPONSE_BODY = 5
    REQUEST_TRAILERS = 6
    RESPONSE_TRAILERS = 7


class BodyMode(IntEnum):
    """How Envoy sends a body."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX = 4
    GRPC = 5


class ProcessingRequest(msgspec.Struct, gc=False):
    """One message from Envoy.

    `data` is the whole message as it came. `headers` (lower-case names, repeated values joined) for headers, `body` for
    bodies; `end` is end_of_stream. `modes` are the body modes of request and response, if the message tells them.
    `metadata`: the message carries some; read it with `subset_hint` and `served`. `observed`: the gateway does not
    listen to us.
    """

    type: MessageType
    data: bytes
    end_of_stream: bool = False
    body: bytes = b""
    headers: dict[str, str] | None = None
    body_modes: tuple[BodyMode, BodyMode] | None = None
    metadata: Metadata | None = None
    observability_mode: bool = False


_TYPE_BY_FIELD: Final[Mapping[str | None, MessageType]] = {kind.name.lower(): kind for kind in MessageType}
_BODY_TYPES: Final = frozenset((MessageType.REQUEST_BODY, MessageType.RESPONSE_BODY))
_HEADERS_TYPES: Final = frozenset((MessageType.REQUEST_HEADERS, MessageType.RESPONSE_HEADERS))
_TYPE_BY_TAG: Final[Mapping[int, MessageType]] = {kind << 3 | 2: kind for kind in _BODY_TYPES | _HEADERS_TYPES}
_BODY_TAGS: Final = frozenset(bytes((kind << 3 | 2,)) for kind in _BODY_TYPES)
_BODY_MODES: Final[Mapping[int, BodyMode]] = {mode.value: mode for mode in BodyMode}
_EMPTY_METADATA: Final = b"\x42\0"
MAX_CACHED_SETTINGS: Final = 256
MAX_END_MESSAGE_BYTES: Final = (
    8  # bytes of a message that ends a body and holds no more of it: the same few again and again
)
MAX_CACHED_ENDS: Final = 64
MAX_CACHED_SETTINGS_BYTES: Final = 128  # bytes; longer ones hold hints or what else other filters know of one request
_parse_protobuf = pb.ProcessingRequest.FromString
_header_blocks = HeaderBlockCache()


def decode(data: bytes) -> ProcessingRequest:
    """The message, or NotUnderstood."""
    if len(data) <= MAX_END_MESSAGE_BYTES and data[:1] in _BODY_TAGS:
        return _decode_end_cached(data)
    try:
        incoming = _decode_fast(data)
    except (IndexError, UnicodeDecodeError):
        incoming = None
    return decode_with_protobuf(data) if incoming is None else incoming


def _decode_fast(data: bytes) -> ProcessingRequest | None:
    """The phase as Envoy writes it, and the few small fields that follow it."""
    kind = _TYPE_BY_TAG.get(data[0])
    if kind is None:
        return None
    of_body = kind in _BODY_TYPES
    phase = wire.parse_phase(data, wire.BODY_END_OF_STREAM if of_body else wire.HEADERS_END_OF_STREAM)
    if phase is None:
        return None
    content, end, stop = phase
    if of_body:
        incoming = ProcessingRequest(kind, data, end, content)
    elif (headers := _header_blocks.decode(content)) is not None:
        incoming = ProcessingRequest(kind, data, end, b"", headers)
    else:
        return None
    rest = data[stop:]
    if rest == _EMPTY_METADATA or (not rest and stop == len(data)):
        return incoming
    return incoming if rest and _decode_trailing_fields(incoming, rest) else None


def _decode_trailing_fields(incoming: ProcessingRequest, rest: bytes) -> bool:
    """Adds what follows the phase; False if that is more of a phase, which belongs to it or replaces it."""
    try:
        message = _parse_settings_cached(rest) if len(rest) <= MAX_CACHED_SETTINGS_BYTES else _parse_settings(rest)
    except Exception:  # the decode error of protobuf's C extension is no public type
        return False
    if message is None:
        return False
    incoming.body_modes, incoming.metadata, incoming.observability_mode = message
    return True


def _parse_settings(rest: bytes) -> tuple[tuple[BodyMode, BodyMode] | None, Metadata | None, bool] | None:
    """Modes, metadata and whether we only watch: nearly always the same bytes."""
    message = _parse_protobuf(rest)
    if message.WhichOneof("request") is not None:
        return None
    modes = _parse_body_modes(message.protocol_config) if message.HasField("protocol_config") else None
    return modes, _filter_metadata(message), message.observability_mode


_parse_settings_cached = lru_cache(MAX_CACHED_SETTINGS)(_parse_settings)


def decode_with_protobuf(data: bytes) -> ProcessingRequest:
    try:
        message = _parse_protobuf(data)
    except Exception as error:
        raise DecodeError(f"no ProcessingRequest: {error}") from error
    kind = _TYPE_BY_FIELD.get(message.WhichOneof("request"))
    if kind is None:
        raise DecodeError("a ProcessingRequest without a phase that we know")
    incoming = ProcessingRequest(kind, data, observability_mode=message.observability_mode)
    if kind in _BODY_TYPES:
        piece = message.response_body if kind is MessageType.RESPONSE_BODY else message.request_body
        incoming.body = piece.body
        incoming.end_of_stream = piece.end_of_stream or piece.end_of_stream_without_message
    elif kind in _HEADERS_TYPES:
        head = message.request_headers if kind is MessageType.REQUEST_HEADERS else message.response_headers
        incoming.headers, incoming.end_of_stream = _parse_header_map(head.headers), head.end_of_stream
    if message.HasField("protocol_config"):
        incoming.body_modes = _parse_body_modes(message.protocol_config)
    incoming.metadata = _filter_metadata(message)
    return incoming


_decode_end_cached = lru_cache(MAX_CACHED_ENDS)(decode_with_protobuf)


def serialize_http_body(message: ProcessingRequest) -> bytes:
    """A body message's HttpBody with all its flags, as it came."""
    whole = _parse_protobuf(message.data)
    return (
        whole.response_body if message.type is MessageType.RESPONSE_BODY else whole.request_body
    ).SerializeToString()


def _filter_metadata(message: pb.ProcessingRequest) -> Metadata | None:
    return message.metadata_context if message.metadata_context.filter_metadata else None


def _parse_body_modes(config: pb.ProtocolConfiguration) -> tuple[BodyMode, BodyMode]:
    """A mode that we do not know yet is taken for full duplex, as no mode at all is."""
    request, response = config.request_body_mode, config.response_body_mode
    return _BODY_MODES.get(request, BodyMode.FULL_DUPLEX), _BODY_MODES.get(response, BodyMode.FULL_DUPLEX)


def _parse_header_map(found: HeaderMap) -> dict[str, str]:
    """Names in lower case; repeated headers joined as RFC 9110 and RFC 9113 have it."""
    headers: dict[str, str] = {}
    for item in found.headers:
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
    """The endpoints that the gateway allows: a list, a string, or list items with commas; None for no hint.

    A hint in any other form allows none: the pool as a whole is what it was meant to narrow.
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
    """The endpoint that answered, empty if the gateway does not say."""
    value = _find_metadata_value(metadata, LB_NAMESPACE, DESTINATION_ENDPOINT_SERVED)
    return "" if value is None else str(value.string_value)


def _find_metadata_value(metadata: Metadata, namespace: str, key: str) -> Any:
    if namespace not in metadata.filter_metadata:
        return None
    fields = metadata.filter_metadata[namespace].fields
    return fields[key] if key in fields else None  # noqa: SIM401 (protobuf maps have no such get)
