"""Envoy's messages as plain values, and back: the only module that sees protobuf.

Replies that carry a piece of a body are framed by hand around it, so that the piece is copied once; those that never
change are made once; the reply that names a destination is kept per destination.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from epp.extproc.pb import access_log_pb2, access_log_service_pb2, health_pb2
from epp.extproc.pb import ext_proc_pb2 as pb
from epp.extproc.pb.core_pb2 import HeaderMap, HeaderValue, HeaderValueOption, Metadata
from epp.sched.exchange import LogEntry

DESTINATION: Final = "x-gateway-destination-endpoint"
SCORES: Final = "x-gateway-destination-endpoint-scores"
SERVED: Final = "x-gateway-destination-endpoint-served"
SUBSET: Final = "x-gateway-destination-endpoint-subset"
DROPPED_REASON: Final = "x-llm-d-request-dropped-reason"
LB_NAMESPACE: Final = "envoy.lb"
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"
KEPT_DESTINATIONS: Final = 4096


class Kind(IntEnum):
    """What Envoy sent; the numbers are those of the fields of ProcessingRequest."""

    REQUEST_HEADERS = 2
    RESPONSE_HEADERS = 3
    REQUEST_BODY = 4
    RESPONSE_BODY = 5
    REQUEST_TRAILERS = 6
    RESPONSE_TRAILERS = 7


class Mode(IntEnum):
    """How Envoy sends a body."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX = 4
    GRPC = 5


class Incoming(msgspec.Struct, gc=False):
    """One message from Envoy.

    `headers` (lower-case names, repeated values joined) for headers, `body` for bodies; `end` is end_of_stream. `modes`
    are the body modes of request and response, if the message tells them. `metadata`: the message carries some; read
    it with `subset_hint` and `served`.
    """

    kind: Kind
    end: bool = False
    body: bytes = b""
    headers: dict[str, str] | None = None
    modes: tuple[Mode, Mode] | None = None
    metadata: Metadata | None = None


class NotUnderstood(ValueError):
    """The bytes are no ProcessingRequest, or an empty one."""


_KINDS: Final[Mapping[str, Kind]] = {kind.name.lower(): kind for kind in Kind}
_parse = pb.ProcessingRequest.FromString


def decode(data: bytes) -> Incoming:
    """The message, or NotUnderstood."""
    try:
        message = _parse(data)
    except Exception as error:  # the decode error of protobuf's C extension is no public type
        raise NotUnderstood(f"no ProcessingRequest: {error}") from error
    kind = _KINDS.get(message.WhichOneof("request") or "")
    if kind is None:
        raise NotUnderstood("a ProcessingRequest without a phase that we know")
    incoming = Incoming(kind)
    if kind is Kind.RESPONSE_BODY:
        incoming.body, incoming.end = message.response_body.body, message.response_body.end_of_stream
    elif kind is Kind.REQUEST_BODY:
        incoming.body, incoming.end = message.request_body.body, message.request_body.end_of_stream
    elif kind is Kind.REQUEST_HEADERS:
        incoming.headers = _headers(message.request_headers.headers)
        incoming.end = message.request_headers.end_of_stream
    elif kind is Kind.RESPONSE_HEADERS:
        incoming.headers = _headers(message.response_headers.headers)
        incoming.end = message.response_headers.end_of_stream
    if message.HasField("protocol_config"):
        config = message.protocol_config
        incoming.modes = Mode(config.request_body_mode), Mode(config.response_body_mode)
    if message.HasField("metadata_context"):
        incoming.metadata = message.metadata_context
    return incoming


def _headers(found: HeaderMap) -> dict[str, str]:
    headers: dict[str, str] = {}
    for header in found.headers:
        name = header.key.lower()
        value = header.raw_value.decode("utf-8", "surrogateescape") or header.value
        if name in headers:
            value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
        headers[name] = value
    return headers


def subset_hint(metadata: Metadata) -> tuple[str, ...] | None:
    """The endpoints that the gateway allows: a list, a string, or list items with commas; None for no hint."""
    value = _entry(metadata, SUBSET_NAMESPACE, SUBSET)
    if value is None:
        return None
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        texts = [value.string_value]
    elif kind == "list_value":
        texts = [item.string_value for item in value.list_value.values]
    else:
        return None
    return tuple(item.strip() for text in texts for item in text.split(",") if item.strip())


def served(metadata: Metadata) -> str:
    """The endpoint that answered, empty if the gateway does not say."""
    value = _entry(metadata, LB_NAMESPACE, SERVED)
    return "" if value is None else str(value.string_value)


def _entry(metadata: Metadata, namespace: str, key: str) -> Any:
    if namespace not in metadata.filter_metadata:
        return None
    fields = metadata.filter_metadata[namespace].fields
    return fields[key] if key in fields else None  # noqa: SIM401 (protobuf maps have no such get)


# Replies


class Mutation(msgspec.Struct, frozen=True):
    """What changes in the request: headers to set and to remove."""

    set_headers: Mapping[str, str] = {}
    remove_headers: tuple[str, ...] = ()


def chosen_at_headers(destination: str, mutation: Mutation, scores: Mapping[str, float] | None) -> bytes:
    """The reply to request headers that names the destination, by header and by metadata."""
    if mutation is PLAIN and scores is None:
        return _plain_choice(destination)
    common = _choice(destination, mutation)
    reply = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=common))
    _name(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


def chosen_at_body(
    destination: str, mutation: Mutation, scores: Mapping[str, float] | None, body: bytes | None
) -> bytes:
    """The same in the reply to a buffered body, which is replaced by `body` if that is not None."""
    common = _choice(destination, mutation)
    if body is not None:
        common.body_mutation.body = body
    reply = pb.ProcessingResponse(request_body=pb.BodyResponse(response=common))
    _name(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


PLAIN: Final = Mutation()


@lru_cache(KEPT_DESTINATIONS)
def _plain_choice(destination: str) -> bytes:
    reply = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=_choice(destination, PLAIN)))
    _name(reply.dynamic_metadata, destination, None)
    return reply.SerializeToString()


def _choice(destination: str, mutation: Mutation) -> pb.CommonResponse:
    headers = {DESTINATION: destination, **mutation.set_headers}
    return pb.CommonResponse(
        clear_route_cache=True,
        header_mutation=pb.HeaderMutation(set_headers=_options(headers), remove_headers=mutation.remove_headers),
    )


def _options(headers: Mapping[str, str]) -> list[HeaderValueOption]:
    # Envoy's ext_proc overwrites by default; the default append action would add in other filters.
    return [
        HeaderValueOption(header=HeaderValue(key=name, raw_value=value.encode("utf-8", "surrogateescape")))
        for name, value in headers.items()
    ]


def _name(metadata: Struct, destination: str, scores: Mapping[str, float] | None) -> None:
    entries: dict[str, Any] = {DESTINATION: destination}
    if scores is not None:
        entries[SCORES] = dict(scores)
    metadata.update({LB_NAMESPACE: entries})


def immediate(status: int, body: bytes, headers: Mapping[str, str], details: str) -> bytes:
    """An answer to the client from us. `details` stands in Envoy's access log."""
    reply = pb.ProcessingResponse()
    answer = reply.immediate_response
    answer.status.code = status  # type: ignore[assignment]
    answer.body = body
    answer.details = details
    if headers:
        answer.headers.set_headers.extend(_options(headers))
    return reply.SerializeToString()


CONTINUE_REQUEST_HEADERS: Final = pb.ProcessingResponse(
    request_headers=pb.HeadersResponse(response=pb.CommonResponse())
).SerializeToString()
CONTINUE_REQUEST_BODY: Final = pb.ProcessingResponse(
    request_body=pb.BodyResponse(response=pb.CommonResponse())
).SerializeToString()
CONTINUE_REQUEST_TRAILERS: Final = pb.ProcessingResponse(request_trailers=pb.TrailersResponse()).SerializeToString()
CONTINUE_RESPONSE_HEADERS: Final = pb.ProcessingResponse(
    response_headers=pb.HeadersResponse(response=pb.CommonResponse())
).SerializeToString()
MARK_RESPONSE_HEADERS: Final = pb.ProcessingResponse(
    response_headers=pb.HeadersResponse(
        response=pb.CommonResponse(
            header_mutation=pb.HeaderMutation(set_headers=_options({"x-went-into-resp-headers": "true"}))
        )
    )
).SerializeToString()
CONTINUE_RESPONSE_BODY: Final = pb.ProcessingResponse(
    response_body=pb.BodyResponse(response=pb.CommonResponse())
).SerializeToString()
CONTINUE_RESPONSE_TRAILERS: Final = pb.ProcessingResponse(response_trailers=pb.TrailersResponse()).SerializeToString()

_REQUEST_BODY_TAG: Final = b"\x1a"
_RESPONSE_BODY_TAG: Final = b"\x22"


def request_chunk(piece: bytes | memoryview, end: bool) -> bytes:
    """A piece of the request body on its way to the model server, in full duplex."""
    return _chunk(_REQUEST_BODY_TAG, piece, end)


def response_chunk(piece: bytes | memoryview, end: bool) -> bytes:
    """A piece of the response body on its way to the client, in full duplex."""
    return _chunk(_RESPONSE_BODY_TAG, piece, end)


def _chunk(tag: bytes, piece: bytes | memoryview, end: bool) -> bytes:
    """`{tag: {1: {3: {3: {1: piece, 2: end}}}}}`: response, body response, common, mutation, streamed body."""
    tail = b"\x10\x01" if end else b""
    size = len(piece)
    head = b"\x0a" + _varint(size) if size else b""
    size += len(head) + len(tail)
    head = b"\x1a" + _varint(size) + head
    size = len(head) + len(piece) + len(tail)
    head = b"\x1a" + _varint(size) + head
    size = len(head) + len(piece) + len(tail)
    head = b"\x0a" + _varint(size) + head
    size = len(head) + len(piece) + len(tail)
    return b"".join((tag, _varint(size), head, piece, tail))


@lru_cache(1024)
def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


# Health and access log


def health_service(data: bytes) -> str:
    """The service name that a health check asks for."""
    try:
        return health_pb2.HealthCheckRequest.FromString(data).service
    except Exception as error:
        raise NotUnderstood(f"no HealthCheckRequest: {error}") from error


def health_status(serving: bool) -> bytes:
    """The answer to a health check."""
    return _health(serving).SerializeToString()


def health_list(serving: Mapping[str, bool]) -> bytes:
    """All services at once."""
    statuses = {name: _health(well) for name, well in serving.items()}
    return health_pb2.HealthListResponse(statuses=statuses).SerializeToString()


def _health(serving: bool) -> health_pb2.HealthCheckResponse:
    status = health_pb2.HealthCheckResponse
    return status(status=status.SERVING if serving else status.NOT_SERVING)


def log_entries(data: bytes) -> list[LogEntry]:
    """The requests that ended, of one message of Envoy's access log; lines about running ones are left out."""
    try:
        message = access_log_service_pb2.StreamAccessLogsMessage.FromString(data)
    except Exception as error:
        raise NotUnderstood(f"no StreamAccessLogsMessage: {error}") from error
    return [
        _log_entry(entry) for entry in message.http_logs.log_entry if not entry.common_properties.intermediate_log_entry
    ]


def _log_entry(entry: access_log_pb2.HTTPAccessLogEntry) -> LogEntry:
    common, response = entry.common_properties, entry.response
    upstream = common.upstream_remote_address.socket_address
    address = f"[{upstream.address}]" if ":" in upstream.address else upstream.address
    first_byte = common.time_to_first_upstream_rx_byte if common.HasField("time_to_first_upstream_rx_byte") else None
    flags = common.response_flags
    return LogEntry(
        request_id=entry.request.request_id,
        status=response.response_code.value,
        upstream=f"{address}:{upstream.port_value}" if address else "",
        started=common.start_time.seconds + common.start_time.nanos / 1e9,
        seconds=_seconds(common.duration if common.HasField("duration") else common.time_to_last_downstream_tx_byte),
        ttfb_seconds=None if first_byte is None else _seconds(first_byte),
        response_bytes=response.response_body_bytes,
        disconnected=flags.downstream_connection_termination or flags.downstream_remote_reset,
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
