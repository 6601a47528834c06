"""What the picker does on an ext_proc stream, as lines of a transcript: the other half of `Playbook`'s vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from google.protobuf.json_format import MessageToDict

from epp.headers import (
    DESTINATION_ENDPOINT,
    DESTINATION_ENDPOINT_SCORES,
    LB_NAMESPACE,
    REQUEST_DROPPED_REASON,
    WENT_INTO_RESPONSE_HEADERS,
)
from epp.pb import ext_proc_pb2 as pb


class _AnyValue:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "..."


ANY: Final[Any] = _AnyValue()
"""Equal to every value: a detail that a transcript does not check."""


class TranscriptLine(NamedTuple):
    """One line of a transcript: an event that the picker receives (`is_event`), or an action that it takes.

    `message` is an event's serialized ProcessingRequest, if it is one.
    """

    is_event: bool
    name: str
    details: Mapping[str, Any]
    message: bytes | None = None

    def __str__(self) -> str:
        details = ", ".join(f"{key}={_shorten(value)}" for key, value in self.details.items())
        return f"{'>>' if self.is_event else '  <<'} {self.name}({details})"

    def matches(self, other: TranscriptLine) -> bool:
        """Equal but for `message` and details that are `ANY`."""
        return (self.is_event, self.name, self.details) == (other.is_event, other.name, other.details)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:80]}…({len(value)})"


def _new_action(name: str, **details: Any) -> TranscriptLine:
    return TranscriptLine(False, name, details)


def requests_decision(
    body: bytes = b"", *, subset: tuple[str, ...] | None = None, before_body: bool = False, end: bool = False
) -> TranscriptLine:
    """The router is called. `before_body`: before the body arrives; `end`: there is no body."""
    return _new_action("requests_decision", body=body, subset=subset, before_body=before_body, end=end)


def cancels_decision() -> TranscriptLine:
    """The awaited decision is cancelled."""
    return _new_action("cancels_decision")


def sends_route(
    destination: str,
    *,
    at: Literal["headers", "body", "trailers"] = "headers",
    sets: Mapping[str, str] | None = None,
    removes: Iterable[str] = (),
    body: bytes | None = None,
    scores: Mapping[str, float] | None = None,
) -> TranscriptLine:
    """The reply that carries the destination, as header and as metadata alike, and nothing that is not listed here."""
    return _new_action(
        "sends_route",
        destination=destination, at=at, sets=dict(sets or {}), removes=sorted(removes), body=body,
        scores=None if scores is None else dict(scores),
    )  # fmt: skip


def sends_request_body(body: bytes, *, end: bool = False) -> TranscriptLine:
    """A chunk of the request body, to the model server (full duplex)."""
    return _new_action("sends_request_body", body=body, end=end)


def sends_response_body(body: bytes, *, end: bool = False) -> TranscriptLine:
    """A chunk of the response body, to the client (full duplex)."""
    return _new_action("sends_response_body", body=body, end=end)


def continues(phase: str) -> TranscriptLine:
    """An empty reply to a message of this phase, e.g. `request_headers`: Envoy continues without a change."""
    return _new_action("continues", phase=phase)


def marks_response() -> TranscriptLine:
    """The reply to response headers that adds llm-d's `x-went-into-resp-headers: true` and nothing else."""
    return _new_action("marks_response")


def sends_immediate_response(status: int, *, dropped: str = "", text: str = ANY) -> TranscriptLine:
    """The client is answered by the picker. `dropped`: the value of `x-llm-d-request-dropped-reason`."""
    return _new_action("sends_immediate_response", status=status, dropped=dropped, text=text)


def closes_stream(status: int = 0) -> TranscriptLine:
    """The RPC is finished with this grpc-status."""
    return _new_action("closes_stream", status=status)


def delivers_event(**event: Any) -> TranscriptLine:
    """The routed request gets an event: `served="ip:port"`, `status=200`, `data=b"…"`, or `ended="completed"`."""
    return _new_action("delivers_event", **event)


def describe_reply(message: bytes) -> TranscriptLine:
    """The action that this ProcessingResponse is; `sends(...)` with all of its fields if it is none of the above."""
    reply = pb.ProcessingResponse.FromString(message)
    kind = reply.WhichOneof("response") or ""
    if kind == "immediate_response":
        response = reply.immediate_response
        headers = _read_headers_set_by(response.headers)
        dropped = headers.pop(REQUEST_DROPPED_REASON, "")
        if not headers and not response.headers.remove_headers:
            return sends_immediate_response(response.status.code, dropped=dropped, text=response.body.decode())
    elif kind.startswith("request") and reply.HasField("dynamic_metadata"):
        return _describe_route(reply, kind.removeprefix("request_"))
    elif kind.endswith("_trailers"):
        if not getattr(reply, kind).ByteSize():
            return continues(kind)
    else:
        common = getattr(reply, kind).response
        if not common.ByteSize():
            return continues(kind)
        if common.body_mutation.HasField("streamed_response") and not common.HasField("header_mutation"):
            chunk = common.body_mutation.streamed_response
            return _new_action(f"sends_{kind}", body=chunk.body, end=chunk.end_of_stream)
        if kind == "response_headers" and _read_headers_set_by(common.header_mutation) == {
            WENT_INTO_RESPONSE_HEADERS: "true"
        }:
            return marks_response()
    return _new_action("sends", **MessageToDict(reply))


def _describe_route(reply: pb.ProcessingResponse, at: str) -> TranscriptLine:
    metadata = MessageToDict(reply.dynamic_metadata).get(LB_NAMESPACE, {})
    destination = metadata.get(DESTINATION_ENDPOINT)
    if at == "trailers":
        return _new_action("sends_route", destination=destination, at=at, sets={}, removes=[], body=None, scores=None)
    common = getattr(reply, f"request_{at}").response
    sets = _read_headers_set_by(common.header_mutation)
    header = sets.pop(DESTINATION_ENDPOINT, None)
    if header != destination or not common.clear_route_cache or common.body_mutation.HasField("streamed_response"):
        return _new_action("sends", **MessageToDict(reply))
    body = common.body_mutation.body if common.body_mutation.HasField("body") else None
    return _new_action(
        "sends_route",
        destination=destination, at=at, sets=sets, removes=sorted(common.header_mutation.remove_headers), body=body,
        scores=metadata.get(DESTINATION_ENDPOINT_SCORES),
    )  # fmt: skip


def _read_headers_set_by(mutation: pb.HeaderMutation) -> dict[str, str]:
    return {item.header.key: item.header.raw_value.decode("utf-8", "surrogateescape") for item in mutation.set_headers}
