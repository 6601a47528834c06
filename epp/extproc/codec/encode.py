"""What we send on an ext_proc stream: serialized ProcessingResponses, made without any cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from google.protobuf.struct_pb2 import Struct

from epp.extproc.codec.decode import ProcessingRequest, serialize_http_body
from epp.headers import (
    DESTINATION_ENDPOINT,
    DESTINATION_ENDPOINT_SCORES,
    LB_NAMESPACE,
    WENT_INTO_RESPONSE_HEADERS,
)
from epp.pb import ext_proc_pb2 as pb
from epp.pb.core_pb2 import HeaderValue, HeaderValueOption


class HeaderMutation(msgspec.Struct, frozen=True):
    """Headers of the request to set and to remove, besides the destination."""

    set_headers: Mapping[str, str] = {}
    remove_headers: tuple[str, ...] = ()


NO_MUTATION: Final = HeaderMutation()

# The routing decision


def route_in_headers(
    destination: str, mutation: HeaderMutation = NO_MUTATION, scores: Mapping[str, float] | None = None
) -> bytes:
    """The reply to request headers that names the destination, as header and as metadata."""
    common = _common_response(destination, mutation)
    reply = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=common))
    _add_destination_metadata(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


def route_in_body(
    destination: str, mutation: HeaderMutation, scores: Mapping[str, float] | None, body: bytes | None
) -> bytes:
    """The reply to a buffered body that names the destination. `body` replaces the buffered one if not None.

    Envoy applies the header mutation of a body reply in the buffered modes only (`CommonResponse.header_mutation`).
    """
    common = _common_response(destination, mutation)
    if body is not None:
        common.body_mutation.body = body
    reply = pb.ProcessingResponse(request_body=pb.BodyResponse(response=common))
    _add_destination_metadata(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


def route_in_trailers(destination: str, scores: Mapping[str, float] | None) -> bytes:
    """The reply to trailers that came without a body message (buffered): metadata only.

    A TrailersResponse mutates trailers; it cannot change the request's headers.
    """
    reply = pb.ProcessingResponse(request_trailers=pb.TrailersResponse())
    _add_destination_metadata(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


def mutate_request_headers(mutation: HeaderMutation) -> bytes:
    """A reply to request headers that holds nothing but the mutation."""
    headers = pb.HeaderMutation(
        set_headers=_header_value_options(mutation.set_headers), remove_headers=mutation.remove_headers
    )
    common = pb.CommonResponse(header_mutation=headers)
    return _serialize_response(request_headers=pb.HeadersResponse(response=common))


def _common_response(destination: str, mutation: HeaderMutation) -> pb.CommonResponse:
    headers = {DESTINATION_ENDPOINT: destination, **mutation.set_headers}
    return pb.CommonResponse(
        clear_route_cache=True,
        header_mutation=pb.HeaderMutation(
            set_headers=_header_value_options(headers), remove_headers=mutation.remove_headers
        ),
    )


def _header_value_options(headers: Mapping[str, str]) -> list[HeaderValueOption]:
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value.encode("utf-8", "surrogateescape")),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers.items()
    ]


def _add_destination_metadata(metadata: Struct, destination: str, scores: Mapping[str, float] | None) -> None:
    entries: dict[str, Any] = {DESTINATION_ENDPOINT: destination}
    if scores is not None:
        entries[DESTINATION_ENDPOINT_SCORES] = dict(scores)
    metadata.update({LB_NAMESPACE: entries})


# Other replies


def immediate_response(status: int, body: bytes, headers: Mapping[str, str], details: str) -> bytes:
    """Envoy's ImmediateResponse: the answer to the client comes from us. `details` goes to Envoy's access log."""
    reply = pb.ProcessingResponse()
    response = reply.immediate_response
    response.status.code = status  # type: ignore[assignment]
    response.body = body
    response.details = details
    if headers:
        response.headers.set_headers.extend(_header_value_options(headers))
    return reply.SerializeToString()


def _serialize_response(**response: Any) -> bytes:
    return pb.ProcessingResponse(**response).SerializeToString()


_UNCHANGED: Final = pb.CommonResponse()
CONTINUE_REQUEST_HEADERS: Final = _serialize_response(request_headers=pb.HeadersResponse(response=_UNCHANGED))
CONTINUE_REQUEST_BODY: Final = _serialize_response(request_body=pb.BodyResponse(response=_UNCHANGED))
CONTINUE_REQUEST_TRAILERS: Final = _serialize_response(request_trailers=pb.TrailersResponse())
CONTINUE_RESPONSE_HEADERS: Final = _serialize_response(response_headers=pb.HeadersResponse(response=_UNCHANGED))
CONTINUE_RESPONSE_BODY: Final = _serialize_response(response_body=pb.BodyResponse(response=_UNCHANGED))
CONTINUE_RESPONSE_TRAILERS: Final = _serialize_response(response_trailers=pb.TrailersResponse())
MARK_RESPONSE_HEADERS: Final = _serialize_response(
    response_headers=pb.HeadersResponse(
        response=pb.CommonResponse(
            header_mutation=pb.HeaderMutation(set_headers=_header_value_options({WENT_INTO_RESPONSE_HEADERS: "true"}))
        )
    )
)

# Body chunks in full duplex, framed by hand: protobuf copies a chunk three times on its way, this copies it once.
# In ProcessingResponse request_body is field 3, response_body field 4; in it response = 1, body_mutation = 3,
# streamed_response = 3, and there body = 1, end_of_stream = 2. The wire format is described in `codec.wire`.

REQUEST_BODY_TAG: Final = b"\x1a"
RESPONSE_BODY_TAG: Final = b"\x22"
CHUNK_END_OF_STREAM: Final = b"\x10\x01"
_RESPONSE_TAG: Final = b"\x0a"
_BODY_MUTATION_TAG: Final = b"\x1a"
_STREAMED_RESPONSE_TAG: Final = b"\x1a"
_BODY_TAG: Final = b"\x0a"


def chunk_prefix(phase_tag: bytes, length: int, end_of_stream: bool) -> bytes:
    """The encoded bytes before a chunk of `length` bytes. `CHUNK_END_OF_STREAM` has to follow the last chunk."""
    following_bytes = length + (len(CHUNK_END_OF_STREAM) if end_of_stream else 0)
    return _wrap_body_fields(phase_tag, _BODY_TAG + _encode_varint(length) if length else b"", following_bytes)


def request_body_unchanged(request: ProcessingRequest) -> bytes:
    """A request body message of mode GRPC passes as received: StreamedBodyResponse has the fields of HttpBody."""
    fields = serialize_http_body(request)
    return _wrap_body_fields(REQUEST_BODY_TAG, b"", len(fields)) + fields


def response_body_unchanged(request: ProcessingRequest) -> bytes:
    """The answer to a response body message whose chunk is passed on unchanged."""
    fields = serialize_http_body(request)
    return _wrap_body_fields(RESPONSE_BODY_TAG, b"", len(fields)) + fields


def _wrap_body_fields(phase_tag: bytes, fields: bytes, following_bytes: int) -> bytes:
    """`fields` of a StreamedBodyResponse behind the tags and lengths of the messages that contain it.

    The lengths include the `following_bytes` that the caller appends.
    """
    for tag in (_STREAMED_RESPONSE_TAG, _BODY_MUTATION_TAG, _RESPONSE_TAG, phase_tag):
        fields = tag + _encode_varint(len(fields) + following_bytes) + fields
    return fields


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
