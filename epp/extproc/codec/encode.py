"""What we answer on an ext_proc stream. Replies that never change are made once, those to a destination kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from google.protobuf.struct_pb2 import Struct

from epp.headers import (
    DESTINATION_ENDPOINT,
    DESTINATION_ENDPOINT_SCORES,
    LB_NAMESPACE,
    WENT_INTO_RESPONSE_HEADERS,
)
from epp.pb import ext_proc_pb2 as pb
from epp.pb.core_pb2 import HeaderValue, HeaderValueOption

MAX_CACHED_DESTINATIONS: Final = 4096


class HeaderMutation(msgspec.Struct, frozen=True):
    """What changes in the request: headers to set and to remove."""

    set_headers: Mapping[str, str] = {}
    remove_headers: tuple[str, ...] = ()


NO_MUTATION: Final = HeaderMutation()
"""Nothing but the destination."""


def route_in_headers(destination: str, mutation: HeaderMutation, scores: Mapping[str, float] | None) -> bytes:
    """The reply to request headers that names the destination, by header and by metadata."""
    if scores is None:
        return _plain_route_in_headers(destination) + _encode_mutation(mutation)
    common = _common_response(destination, mutation)
    reply = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=common))
    _add_destination_metadata(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


def route_in_body(
    destination: str, mutation: HeaderMutation, scores: Mapping[str, float] | None, body: bytes | None
) -> bytes:
    """The same in the reply to a buffered body, which is replaced by `body` if that is not None."""
    common = _common_response(destination, mutation)
    if body is not None:
        common.body_mutation.body = body
    reply = pb.ProcessingResponse(request_body=pb.BodyResponse(response=common))
    _add_destination_metadata(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


def route_in_trailers(destination: str, scores: Mapping[str, float] | None) -> bytes:
    """The reply to trailers that nothing but headers came before: there is no place left but the metadata."""
    reply = pb.ProcessingResponse(request_trailers=pb.TrailersResponse())
    _add_destination_metadata(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


@lru_cache(MAX_CACHED_DESTINATIONS)
def _plain_route_in_headers(destination: str) -> bytes:
    reply = pb.ProcessingResponse(
        request_headers=pb.HeadersResponse(response=_common_response(destination, NO_MUTATION))
    )
    _add_destination_metadata(reply.dynamic_metadata, destination, None)
    return reply.SerializeToString()


def _encode_mutation(mutation: HeaderMutation) -> bytes:
    """Further changes, to be appended: a reader of protobuf merges messages that stand one after the other."""
    if mutation is NO_MUTATION:
        return b""
    headers = pb.HeaderMutation(
        set_headers=_header_value_options(mutation.set_headers), remove_headers=mutation.remove_headers
    )
    more = pb.ProcessingResponse(
        request_headers=pb.HeadersResponse(response=pb.CommonResponse(header_mutation=headers))
    )
    return more.SerializeToString()


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


def immediate_response(status: int, body: bytes, headers: Mapping[str, str], details: str) -> bytes:
    """An answer to the client from us. `details` stands in Envoy's access log."""
    reply = pb.ProcessingResponse()
    answer = reply.immediate_response
    answer.status.code = status  # type: ignore[assignment]
    answer.body = body
    answer.details = details
    if headers:
        answer.headers.set_headers.extend(_header_value_options(headers))
    return reply.SerializeToString()


def _serialize_response(**response: Any) -> bytes:
    return pb.ProcessingResponse(**response).SerializeToString()


_EMPTY_RESPONSE: Final = pb.CommonResponse()
CONTINUE_REQUEST_HEADERS: Final = _serialize_response(request_headers=pb.HeadersResponse(response=_EMPTY_RESPONSE))
CONTINUE_REQUEST_BODY: Final = _serialize_response(request_body=pb.BodyResponse(response=_EMPTY_RESPONSE))
CONTINUE_REQUEST_TRAILERS: Final = _serialize_response(request_trailers=pb.TrailersResponse())
CONTINUE_RESPONSE_HEADERS: Final = _serialize_response(response_headers=pb.HeadersResponse(response=_EMPTY_RESPONSE))
CONTINUE_RESPONSE_BODY: Final = _serialize_response(response_body=pb.BodyResponse(response=_EMPTY_RESPONSE))
CONTINUE_RESPONSE_TRAILERS: Final = _serialize_response(response_trailers=pb.TrailersResponse())
MARK_RESPONSE_HEADERS: Final = _serialize_response(
    response_headers=pb.HeadersResponse(
        response=pb.CommonResponse(
            header_mutation=pb.HeaderMutation(set_headers=_header_value_options({WENT_INTO_RESPONSE_HEADERS: "true"}))
        )
    )
)
