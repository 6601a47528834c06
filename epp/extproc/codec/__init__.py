"""Envoy's messages as plain values, and back: the only code of the picker that sees protobuf.

`incoming` decodes what a gateway sends, `replies` encodes what it gets, `pieces` frames bodies by hand, `services` are
the messages of health checks and of the access log.
"""

from epp.extproc.codec.chunks import request_message, request_piece, response_message, response_piece
from epp.extproc.codec.decode import Incoming, Kind, Mode, decode, headers_size, served, subset_hint
from epp.extproc.codec.encode import (
    CONTINUE_REQUEST_BODY,
    CONTINUE_REQUEST_HEADERS,
    CONTINUE_REQUEST_TRAILERS,
    CONTINUE_RESPONSE_BODY,
    CONTINUE_RESPONSE_HEADERS,
    CONTINUE_RESPONSE_TRAILERS,
    DESTINATION,
    DROPPED_REASON,
    MARK_RESPONSE_HEADERS,
    PLAIN,
    SCORES,
    Mutation,
    chosen_at_body,
    chosen_at_headers,
    chosen_at_trailers,
    immediate,
)

__all__ = [
    "CONTINUE_REQUEST_BODY",
    "CONTINUE_REQUEST_HEADERS",
    "CONTINUE_REQUEST_TRAILERS",
    "CONTINUE_RESPONSE_BODY",
    "CONTINUE_RESPONSE_HEADERS",
    "CONTINUE_RESPONSE_TRAILERS",
    "DESTINATION",
    "DROPPED_REASON",
    "Incoming",
    "Kind",
    "MARK_RESPONSE_HEADERS",
    "Mode",
    "Mutation",
    "PLAIN",
    "SCORES",
    "chosen_at_body",
    "chosen_at_headers",
    "chosen_at_trailers",
    "decode",
    "headers_size",
    "immediate",
    "request_message",
    "request_piece",
    "response_message",
    "response_piece",
    "served",
    "subset_hint",
]
