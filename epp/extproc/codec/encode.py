"""What we answer on an ext_proc stream. Replies that never change are made once, those to a destination kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from google.protobuf.struct_pb2 import Struct

from epp.extproc.codec.decode import LB_NAMESPACE
from epp.pb import ext_proc_pb2 as pb
from epp.pb.core_pb2 import HeaderValue, HeaderValueOption

DESTINATION: Final = "x-gateway-destination-endpoint"
SCORES: Final = "x-gateway-destination-endpoint-scores"
DROPPED_REASON: Final = "x-llm-d-request-dropped-reason"
WENT_THROUGH: Final = "x-went-into-resp-headers"
KEPT_DESTINATIONS: Final = 4096


class Mutation(msgspec.Struct, frozen=True):
    """What changes in the request: headers to set and to remove."""

    set_headers: Mapping[str, str] = {}
    remove_headers: tuple[str, ...] = ()


PLAIN: Final = Mutation()
"""Nothing but the destination."""


def chosen_at_headers(destination: str, mutation: Mutation, scores: Mapping[str, float] | None) -> bytes:
    """The reply to request headers that names the destination, by header and by metadata."""
    if scores is None:
        return _named_at_headers(destination) + _also(mutation)
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


def chosen_at_trailers(destination: str, scores: Mapping[str, float] | None) -> bytes:
    """The reply to trailers that nothing but headers came before: there is no place left but the metadata."""
    reply = pb.ProcessingResponse(request_trailers=pb.TrailersResponse())
    _name(reply.dynamic_metadata, destination, scores)
    return reply.SerializeToString()


@lru_cache(KEPT_DESTINATIONS)
def _named_at_headers(destination: str) -> bytes:
    reply = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=_choice(destination, PLAIN)))
    _name(reply.dynamic_metadata, destination, None)
    return reply.SerializeToString()


def _also(mutation: Mutation) -> bytes:
    """Further changes, to be appended: a reader of protobuf merges messages that stand one after the other."""
    if mutation is PLAIN:
        return b""
    headers = pb.HeaderMutation(set_headers=_options(mutation.set_headers), remove_headers=mutation.remove_headers)
    more = pb.ProcessingResponse(
        request_headers=pb.HeadersResponse(response=pb.CommonResponse(header_mutation=headers))
    )
    return more.SerializeToString()


def _choice(destination: str, mutation: Mutation) -> pb.CommonResponse:
    headers = {DESTINATION: destination, **mutation.set_headers}
    return pb.CommonResponse(
        clear_route_cache=True,
        header_mutation=pb.HeaderMutation(set_headers=_options(headers), remove_headers=mutation.remove_headers),
    )


def _options(headers: Mapping[str, str]) -> list[HeaderValueOption]:
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value.encode("utf-8", "surrogateescape")),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
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


def _fixed(**response: Any) -> bytes:
    return pb.ProcessingResponse(**response).SerializeToString()


_EMPTY: Final = pb.CommonResponse()
CONTINUE_REQUEST_HEADERS: Final = _fixed(request_headers=pb.HeadersResponse(response=_EMPTY))
CONTINUE_REQUEST_BODY: Final = _fixed(request_body=pb.BodyResponse(response=_EMPTY))
CONTINUE_REQUEST_TRAILERS: Final = _fixed(request_trailers=pb.TrailersResponse())
CONTINUE_RESPONSE_HEADERS: Final = _fixed(response_headers=pb.HeadersResponse(response=_EMPTY))
CONTINUE_RESPONSE_BODY: Final = _fixed(response_body=pb.BodyResponse(response=_EMPTY))
CONTINUE_RESPONSE_TRAILERS: Final = _fixed(response_trailers=pb.TrailersResponse())
MARK_RESPONSE_HEADERS: Final = _fixed(
    response_headers=pb.HeadersResponse(
        response=pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=_options({WENT_THROUGH: "true"})))
    )
)
