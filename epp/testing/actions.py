"""What a picker does on an ext_proc stream, in words: the second half of the vocabulary of `Playbook`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from google.protobuf.json_format import MessageToDict

from epp.pb import ext_proc_pb2 as pb

DESTINATION: Final = "x-gateway-destination-endpoint"


class _Any:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "..."


ANY: Final[Any] = _Any()
"""Equal to everything: a detail that a transcript leaves open."""


class Line(NamedTuple):
    """One line of a transcript. `into` the picker (an event) or out of it (an effect)."""

    into: bool
    name: str
    details: Mapping[str, Any]
    message: bytes | None = None

    def __str__(self) -> str:
        told = ", ".join(f"{key}={_short(value)}" for key, value in self.details.items())
        return f"{'>>' if self.into else '  <<'} {self.name}({told})"

    def matches(self, other: Line) -> bool:
        """Whether both say the same, as far as both say it."""
        return (self.into, self.name, self.details) == (other.into, other.name, other.details)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:80]}…({len(value)})"


def _out(name: str, **details: Any) -> Line:
    return Line(False, name, details)


def asks(body: bytes = b"", *, subset: tuple[str, ...] | None = None, unseen: bool = False, end: bool = False) -> Line:
    """The decider is asked. `unseen`: before the body comes; `end`: there is no body."""
    return _out("asks", body=body, subset=subset, unseen=unseen, end=end)


def gives_up() -> Line:
    """A decision is not needed any more: its task is cancelled."""
    return _out("gives_up")


def sends_choice(
    destination: str,
    *,
    at: Literal["headers", "body", "trailers"] = "headers",
    sets: Mapping[str, str] | None = None,
    removes: Iterable[str] = (),
    body: bytes | None = None,
    scores: Mapping[str, float] | None = None,
) -> Line:
    """The reply that names the destination, in header and metadata alike; with nothing more than is said here."""
    return _out(
        "sends_choice",
        destination=destination, at=at, sets=dict(sets or {}), removes=sorted(removes), body=body,
        scores=None if scores is None else dict(scores),
    )  # fmt: skip


def sends_request_body(body: bytes, *, end: bool = False) -> Line:
    """A piece of the request, on to the model server (full duplex)."""
    return _out("sends_request_body", body=body, end=end)


def sends_response_body(body: bytes, *, end: bool = False) -> Line:
    """A piece of the answer, on to the client (full duplex)."""
    return _out("sends_response_body", body=body, end=end)


def continues(phase: str) -> Line:
    """An empty reply to a message of this phase, e.g. `request_headers`."""
    return _out("continues", phase=phase)


def marks_response() -> Line:
    """The reply to response headers, which adds llm-d's mark and nothing else."""
    return _out("marks_response")


def sends_error(status: int, *, dropped: str = "", text: str = ANY) -> Line:
    """The client is answered by us."""
    return _out("sends_error", status=status, dropped=dropped, text=text)


def closes(status: int = 0) -> Line:
    """The stream ends with this grpc-status."""
    return _out("closes", status=status)


def tells(**what: Any) -> Line:
    """The flight hears of it: `served="ip:port"`, `status=200`, `data=b"…"`, or `ended="completed"`."""
    return _out("tells", **what)


def seen(message: bytes) -> Line:
    """A reply in words. What no word fits is shown as it is."""
    reply = pb.ProcessingResponse.FromString(message)
    kind = reply.WhichOneof("response") or ""
    if kind == "immediate_response":
        answer = reply.immediate_response
        headers = _set(answer.headers)
        dropped = headers.pop("x-llm-d-request-dropped-reason", "")
        if not headers and not answer.headers.remove_headers:
            return sends_error(answer.status.code, dropped=dropped, text=answer.body.decode())
    elif kind.startswith("request") and reply.HasField("dynamic_metadata"):
        return _chosen(reply, kind.removeprefix("request_"))
    elif kind.endswith("_trailers"):
        if not getattr(reply, kind).ByteSize():
            return continues(kind)
    else:
        common = getattr(reply, kind).response
        if not common.ByteSize():
            return continues(kind)
        if common.body_mutation.HasField("streamed_response") and not common.HasField("header_mutation"):
            piece = common.body_mutation.streamed_response
            return _out(f"sends_{kind}", body=piece.body, end=piece.end_of_stream)
        if kind == "response_headers" and _set(common.header_mutation) == {"x-went-into-resp-headers": "true"}:
            return marks_response()
    return _out("sends", **MessageToDict(reply))


def _chosen(reply: pb.ProcessingResponse, at: str) -> Line:
    metadata = MessageToDict(reply.dynamic_metadata).get("envoy.lb", {})
    destination = metadata.get(DESTINATION)
    if at == "trailers":
        return _out("sends_choice", destination=destination, at=at, sets={}, removes=[], body=None, scores=None)
    common = getattr(reply, f"request_{at}").response
    sets = _set(common.header_mutation)
    named = sets.pop(DESTINATION, None)
    if named != destination or not common.clear_route_cache or common.body_mutation.HasField("streamed_response"):
        return _out("sends", **MessageToDict(reply))
    body = common.body_mutation.body if common.body_mutation.HasField("body") else None
    scores = metadata.get(f"{DESTINATION}-scores")
    return _out(
        "sends_choice",
        destination=destination, at=at, sets=sets, removes=sorted(common.header_mutation.remove_headers), body=body,
        scores=scores,
    )  # fmt: skip


def _set(mutation: pb.HeaderMutation) -> dict[str, str]:
    return {item.header.key: item.header.raw_value.decode("utf-8", "surrogateescape") for item in mutation.set_headers}
