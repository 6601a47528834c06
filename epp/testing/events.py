"""What a gateway says to a picker over ext_proc, in words: the first half of the vocabulary of `Playbook`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, cast

from google.protobuf.struct_pb2 import Struct

from epp.pb import core_pb2
from epp.pb import ext_proc_pb2 as pb
from epp.pb.processing_mode_pb2 import ProcessingMode
from epp.testing.actions import DESTINATION, Line

Mode = Literal["NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED", "GRPC"]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

ABSENT: Final[Any] = object()
TRAILERS: Final = pb.HttpTrailers(
    trailers=core_pb2.HeaderMap(headers=[core_pb2.HeaderValue(key="checksum", raw_value=b"1")])
)


def _into(name: str, message: pb.ProcessingRequest | None = None, **details: Any) -> Line:
    told = {key: value for key, value in details.items() if value is not ABSENT}
    return Line(True, name, told, None if message is None else message.SerializeToString())


def request_headers(
    path: str = "/v1/completions",
    *,
    method: str = "POST",
    headers: Headers = (),
    end: bool = False,
    mode: Mode | None = "FULL_DUPLEX_STREAMED",
    response_mode: Mode | None = None,
    subset: Any = ABSENT,
    observability: bool = False,
) -> Line:
    """The first message. `mode` None: no protocol_config; `response_mode` None: as `mode`; `subset`: the hint."""
    pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "gateway")]
    message = pb.ProcessingRequest(observability_mode=observability)
    message.request_headers.headers.CopyFrom(_header_map([*pseudo, *_pairs(headers)]))
    message.request_headers.end_of_stream = end
    if mode is not None:
        message.protocol_config.request_body_mode = _mode(mode)
        message.protocol_config.response_body_mode = _mode(response_mode or mode)
    _hint(message, subset)
    details = {"method": method, "path": path, "headers": _pairs(headers), "end": end, "mode": mode, "subset": subset}
    return _into("request_headers", message, **details)


def request_body(body: bytes = b"", *, end: bool = False, subset: Any = ABSENT) -> Line:
    """A piece of the request's body."""
    message = pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=end))
    _hint(message, subset)
    return _into("request_body", message, body=body, end=end, subset=subset)


def request_trailers() -> Line:
    """The request's trailers."""
    return _into("request_trailers", pb.ProcessingRequest(request_trailers=TRAILERS))


def response_headers(
    status: int | str = 200, *, headers: Headers = (), end: bool = False, served: str = "", mode: Mode | None = None
) -> Line:
    """The head of the answer. `served`: the endpoint that gave it; `mode`: only if nothing came before."""
    message = pb.ProcessingRequest()
    message.response_headers.headers.CopyFrom(_header_map([(":status", str(status)), *_pairs(headers)]))
    message.response_headers.end_of_stream = end
    if served:
        _metadata(message, "envoy.lb", f"{DESTINATION}-served", served)
    if mode is not None:
        message.protocol_config.response_body_mode = _mode(mode)
    return _into("response_headers", message, status=status, end=end, served=served)


def response_body(body: bytes = b"", *, end: bool = False) -> Line:
    """A piece of the answer's body."""
    message = pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end))
    return _into("response_body", message, body=body, end=end)


def response_trailers() -> Line:
    """The answer's trailers."""
    return _into("response_trailers", pb.ProcessingRequest(response_trailers=TRAILERS))


def octets(data: bytes) -> Line:
    """A message as it stands on the wire, sound or not."""
    return Line(True, "octets", {"data": data}, data)


def half_closes() -> Line:
    """The gateway sends no more."""
    return _into("half_closes")


def breaks() -> Line:
    """The stream is reset, or its connection lost."""
    return _into("breaks")


def waits() -> Line:
    """Time passes: a decision that was asked for before is still being made."""
    return _into("waits")


def chooses(
    destination: str,
    *,
    observe: bool = True,
    sets: Mapping[str, str] | None = None,
    body: bytes | None = None,
    scores: Mapping[str, float] | None = None,
) -> Line:
    """The decision, at once if it follows the question, else later. See `Route` for what it holds."""
    return _into(
        "chooses", destination=destination, observe=observe, set_headers=dict(sets or {}), body=body, scores=scores
    )


def refuses(error: BaseException) -> Line:
    """The decision ends with this: a Reject, or what should not happen."""
    return _into("refuses", error=error)


def _mode(name: Mode) -> ProcessingMode.BodySendMode:
    return cast("ProcessingMode.BodySendMode", ProcessingMode.BodySendMode.Value(name))


def _pairs(headers: Headers) -> list[tuple[str, str]]:
    return list(headers.items()) if isinstance(headers, Mapping) else list(headers)


def _header_map(pairs: Iterable[tuple[str, str]]) -> core_pb2.HeaderMap:
    values = [core_pb2.HeaderValue(key=key, raw_value=value.encode("utf-8", "surrogateescape")) for key, value in pairs]
    return core_pb2.HeaderMap(headers=values)


def _hint(message: pb.ProcessingRequest, subset: Any) -> None:
    if subset is not ABSENT:
        _metadata(message, "envoy.lb.subset_hint", f"{DESTINATION}-subset", subset)


def _metadata(message: pb.ProcessingRequest, namespace: str, key: str, value: Any) -> None:
    entries = Struct()
    entries.update({key: value})
    message.metadata_context.filter_metadata[namespace].CopyFrom(entries)
