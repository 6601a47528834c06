"""What the picker receives on an ext_proc stream, as lines of a transcript: one half of `Playbook`'s vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, cast

from google.protobuf.struct_pb2 import Struct

from epp.headers import (
    DESTINATION_ENDPOINT_SERVED,
    DESTINATION_ENDPOINT_SUBSET,
    LB_NAMESPACE,
    SUBSET_HINT_NAMESPACE,
)
from epp.pb import core_pb2
from epp.pb import ext_proc_pb2 as pb
from epp.pb.processing_mode_pb2 import ProcessingMode
from epp.testing.actions import TranscriptLine

BodyModeName = Literal["NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED", "GRPC"]
HeaderPairs = Mapping[str, str] | Iterable[tuple[str, str]]

UNSET: Final[Any] = object()
TRAILERS: Final = pb.HttpTrailers(
    trailers=core_pb2.HeaderMap(headers=[core_pb2.HeaderValue(key="checksum", raw_value=b"1")])
)

# Messages of the gateway


def request_headers(
    path: str = "/v1/completions",
    *,
    method: str = "POST",
    headers: HeaderPairs = (),
    end: bool = False,
    mode: BodyModeName | None = "FULL_DUPLEX_STREAMED",
    response_mode: BodyModeName | None = None,
    subset: Any = UNSET,
    observability: bool = False,
) -> TranscriptLine:
    """The first message of a stream.

    `mode` is the body mode of the request, None for a message without protocol_config; `response_mode` that of the
    response, None for the same. `subset` is the value of the subset hint.
    """
    pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "gateway")]
    message = pb.ProcessingRequest(observability_mode=observability)
    message.request_headers.headers.CopyFrom(_build_header_map([*pseudo, *_list_pairs(headers)]))
    message.request_headers.end_of_stream = end
    if mode is not None:
        message.protocol_config.request_body_mode = _body_mode(mode)
        message.protocol_config.response_body_mode = _body_mode(response_mode or mode)
    _add_subset_hint(message, subset)
    return _new_event(
        "request_headers",
        message,
        method=method,
        path=path,
        headers=_list_pairs(headers),
        end=end,
        mode=mode,
        subset=subset,
    )


def request_body(body: bytes = b"", *, end: bool = False, subset: Any = UNSET) -> TranscriptLine:
    """A chunk of the request body."""
    message = pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=end))
    _add_subset_hint(message, subset)
    return _new_event("request_body", message, body=body, end=end, subset=subset)


def request_trailers() -> TranscriptLine:
    """The request trailers."""
    return _new_event("request_trailers", pb.ProcessingRequest(request_trailers=TRAILERS))


def response_headers(
    status: int | str = 200,
    *,
    headers: HeaderPairs = (),
    end: bool = False,
    served: str = "",
    mode: BodyModeName | None = None,
) -> TranscriptLine:
    """The response headers. `served`: the endpoint that answered; `mode`: only in a stream's first message."""
    message = pb.ProcessingRequest()
    message.response_headers.headers.CopyFrom(_build_header_map([(":status", str(status)), *_list_pairs(headers)]))
    message.response_headers.end_of_stream = end
    if served:
        _add_metadata(message, LB_NAMESPACE, DESTINATION_ENDPOINT_SERVED, served)
    if mode is not None:
        message.protocol_config.response_body_mode = _body_mode(mode)
    return _new_event("response_headers", message, status=status, end=end, served=served)


def response_body(body: bytes = b"", *, end: bool = False) -> TranscriptLine:
    """A chunk of the response body."""
    message = pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end))
    return _new_event("response_body", message, body=body, end=end)


def response_trailers() -> TranscriptLine:
    """The response trailers."""
    return _new_event("response_trailers", pb.ProcessingRequest(response_trailers=TRAILERS))


def raw_message(data: bytes) -> TranscriptLine:
    """A message of these bytes, valid or not."""
    return TranscriptLine(True, "raw_message", {"data": data}, data)


# Other events of the stream


def half_closes() -> TranscriptLine:
    """The gateway has sent its last message."""
    return _new_event("half_closes")


def resets() -> TranscriptLine:
    """The stream is reset, or its connection lost."""
    return _new_event("resets")


def waits() -> TranscriptLine:
    """Time passes without a message while the decision is being made."""
    return _new_event("waits")


# Results of the router


def routes(
    destination: str,
    *,
    observe: bool = True,
    sets: Mapping[str, str] | None = None,
    body: bytes | None = None,
    scores: Mapping[str, float] | None = None,
) -> TranscriptLine:
    """The router decides: at once if this follows `requests_decision`, otherwise later. Fields of `RoutingDecision`."""
    return _new_event(
        "routes",
        destination=destination,
        observe_response=observe,
        set_headers=dict(sets or {}),
        body=body,
        scores=scores,
    )


def rejects(error: BaseException) -> TranscriptLine:
    """The router raises this: a `Rejection`, or another exception as a bug would."""
    return _new_event("rejects", error=error)


def _new_event(name: str, message: pb.ProcessingRequest | None = None, **details: Any) -> TranscriptLine:
    given = {key: value for key, value in details.items() if value is not UNSET}
    return TranscriptLine(True, name, given, None if message is None else message.SerializeToString())


def _body_mode(name: BodyModeName) -> ProcessingMode.BodySendMode:
    return cast("ProcessingMode.BodySendMode", ProcessingMode.BodySendMode.Value(name))


def _list_pairs(headers: HeaderPairs) -> list[tuple[str, str]]:
    return list(headers.items()) if isinstance(headers, Mapping) else list(headers)


def _build_header_map(pairs: Iterable[tuple[str, str]]) -> core_pb2.HeaderMap:
    values = [core_pb2.HeaderValue(key=key, raw_value=value.encode("utf-8", "surrogateescape")) for key, value in pairs]
    return core_pb2.HeaderMap(headers=values)


def _add_subset_hint(message: pb.ProcessingRequest, subset: Any) -> None:
    if subset is not UNSET:
        _add_metadata(message, SUBSET_HINT_NAMESPACE, DESTINATION_ENDPOINT_SUBSET, subset)


def _add_metadata(message: pb.ProcessingRequest, namespace: str, key: str, value: Any) -> None:
    entries = Struct()
    entries.update({key: value})
    message.metadata_context.filter_metadata[namespace].CopyFrom(entries)
