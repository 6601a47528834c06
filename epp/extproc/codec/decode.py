"""What Envoy sends on an ext_proc stream."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

import msgspec

from epp.errors import NotUnderstood
from epp.extproc.codec import wire
from epp.extproc.codec.header_cache import Blocks
from epp.pb import ext_proc_pb2 as pb
from epp.pb.core_pb2 import HeaderMap, Metadata

SERVED: Final = "x-gateway-destination-endpoint-served"
SUBSET: Final = "x-gateway-destination-endpoint-subset"
LB_NAMESPACE: Final = "envoy.lb"
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"


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

    `data` is the whole message as it came. `headers` (lower-case names, repeated values joined) for headers, `body` for
    bodies; `end` is end_of_stream. `modes` are the body modes of request and response, if the message tells them.
    `metadata`: the message carries some; read it with `subset_hint` and `served`. `observed`: the gateway does not
    listen to us.
    """

    kind: Kind
    data: bytes
    end: bool = False
    body: bytes = b""
    headers: dict[str, str] | None = None
    modes: tuple[Mode, Mode] | None = None
    metadata: Metadata | None = None
    observed: bool = False


_KINDS: Final[Mapping[str | None, Kind]] = {kind.name.lower(): kind for kind in Kind}
_OF_BODY: Final = frozenset((Kind.REQUEST_BODY, Kind.RESPONSE_BODY))
_OF_HEADERS: Final = frozenset((Kind.REQUEST_HEADERS, Kind.RESPONSE_HEADERS))
_KIND_OF_TAG: Final[Mapping[int, Kind]] = {kind << 3 | 2: kind for kind in _OF_BODY | _OF_HEADERS}
_BODIES: Final = frozenset(bytes((kind << 3 | 2,)) for kind in _OF_BODY)
_MODES: Final[Mapping[int, Mode]] = {mode.value: mode for mode in Mode}
_NO_METADATA: Final = b"\x42\0"
KEPT_SETTINGS: Final = 256
LONGEST_END: Final = 8  # bytes of a message that ends a body and holds no more of it: the same few again and again
KEPT_ENDS: Final = 64
SHORT_SETTINGS: Final = 128  # bytes; longer ones hold hints or what else other filters know of one request
_parse = pb.ProcessingRequest.FromString
_blocks = Blocks()


def decode(data: bytes) -> Incoming:
    """The message, or NotUnderstood."""
    if len(data) <= LONGEST_END and data[:1] in _BODIES:
        return _known_end(data)
    try:
        incoming = _decode_usual(data)
    except (IndexError, UnicodeDecodeError):
        incoming = None
    return _decode_any(data) if incoming is None else incoming


def _decode_usual(data: bytes) -> Incoming | None:
    """The phase as Envoy writes it, and the few small fields that follow it."""
    kind = _KIND_OF_TAG.get(data[0])
    if kind is None:
        return None
    of_body = kind in _OF_BODY
    phase = wire.phase(data, wire.BODY_ENDS if of_body else wire.HEADERS_END)
    if phase is None:
        return None
    content, end, stop = phase
    if of_body:
        incoming = Incoming(kind, data, end, content)
    elif (headers := _blocks.headers(content)) is not None:
        incoming = Incoming(kind, data, end, b"", headers)
    else:
        return None
    rest = data[stop:]
    if rest == _NO_METADATA or (not rest and stop == len(data)):
        return incoming
    return incoming if rest and _add(incoming, rest) else None


def _add(incoming: Incoming, rest: bytes) -> bool:
    """Adds what follows the phase; False if that is more of a phase, which belongs to it or replaces it."""
    try:
        message = _known_settings(rest) if len(rest) <= SHORT_SETTINGS else _settings(rest)
    except Exception:  # the decode error of protobuf's C extension is no public type
        return False
    if message is None:
        return False
    incoming.modes, incoming.metadata, incoming.observed = message
    return True


def _settings(rest: bytes) -> tuple[tuple[Mode, Mode] | None, Metadata | None, bool] | None:
    """Modes, metadata and whether we only watch: nearly always the same bytes."""
    message = _parse(rest)
    if message.WhichOneof("request") is not None:
        return None
    modes = _modes(message.protocol_config) if message.HasField("protocol_config") else None
    return modes, _metadata(message), message.observability_mode


_known_settings = lru_cache(KEPT_SETTINGS)(_settings)


def _decode_any(data: bytes) -> Incoming:
    try:
        message = _parse(data)
    except Exception as error:
        raise NotUnderstood(f"no ProcessingRequest: {error}") from error
    kind = _KINDS.get(message.WhichOneof("request"))
    if kind is None:
        raise NotUnderstood("a ProcessingRequest without a phase that we know")
    incoming = Incoming(kind, data, observed=message.observability_mode)
    if kind in _OF_BODY:
        piece = message.response_body if kind is Kind.RESPONSE_BODY else message.request_body
        incoming.body = piece.body
        incoming.end = piece.end_of_stream or piece.end_of_stream_without_message
    elif kind in _OF_HEADERS:
        head = message.request_headers if kind is Kind.REQUEST_HEADERS else message.response_headers
        incoming.headers, incoming.end = _headers(head.headers), head.end_of_stream
    if message.HasField("protocol_config"):
        incoming.modes = _modes(message.protocol_config)
    incoming.metadata = _metadata(message)
    return incoming


_known_end = lru_cache(KEPT_ENDS)(_decode_any)


def body_fields(message: Incoming) -> bytes:
    """A body message's HttpBody with all its flags, as it came."""
    whole = _parse(message.data)
    return (whole.response_body if message.kind is Kind.RESPONSE_BODY else whole.request_body).SerializeToString()


def _metadata(message: pb.ProcessingRequest) -> Metadata | None:
    return message.metadata_context if message.metadata_context.filter_metadata else None


def _modes(config: pb.ProtocolConfiguration) -> tuple[Mode, Mode]:
    """A mode that we do not know yet is taken for full duplex, as no mode at all is."""
    request, response = config.request_body_mode, config.response_body_mode
    return _MODES.get(request, Mode.FULL_DUPLEX), _MODES.get(response, Mode.FULL_DUPLEX)


def _headers(found: HeaderMap) -> dict[str, str]:
    """Names in lower case; repeated headers joined as RFC 9110 and RFC 9113 have it."""
    headers: dict[str, str] = {}
    for item in found.headers:
        name = item.key.lower()
        value = item.raw_value.decode("utf-8", "surrogateescape") or item.value
        if name in headers:
            value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
        headers[name] = value
    return headers


def headers_size(headers: Mapping[str, str]) -> int:
    """Bytes of names and values."""
    return sum(len(name) + len(value.encode("utf-8", "surrogateescape")) for name, value in headers.items())


def subset_hint(metadata: Metadata) -> tuple[str, ...] | None:
    """The endpoints that the gateway allows: a list, a string, or list items with commas; None for no hint.

    A hint in any other form allows none: the pool as a whole is what it was meant to narrow.
    """
    value = _entry(metadata, SUBSET_NAMESPACE, SUBSET)
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


def served(metadata: Metadata) -> str:
    """The endpoint that answered, empty if the gateway does not say."""
    value = _entry(metadata, LB_NAMESPACE, SERVED)
    return "" if value is None else str(value.string_value)


def _entry(metadata: Metadata, namespace: str, key: str) -> Any:
    if namespace not in metadata.filter_metadata:
        return None
    fields = metadata.filter_metadata[namespace].fields
    return fields[key] if key in fields else None  # noqa: SIM401 (protobuf maps have no such get)
