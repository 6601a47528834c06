"""Envoy's messages as plain values, and back: the only code of the picker that sees protobuf.

`incoming` decodes what a gateway sends, `replies` encodes what it gets, `pieces` frames bodies by hand, `services` are
the messages of health checks and of the access log.
"""

from epp.extproc.codec.chunks import (
    request_body_chunk,
    request_body_unchanged,
    response_body_chunk,
    response_body_unchanged,
)
from epp.extproc.codec.decode import (
    BodyMode,
    MessageType,
    ProcessingRequest,
    count_header_bytes,
    decode,
    parse_served_endpoint,
    parse_subset_hint,
)
from epp.extproc.codec.encode import (
    CONTINUE_REQUEST_BODY,
    CONTINUE_REQUEST_HEADERS,
    CONTINUE_REQUEST_TRAILERS,
    CONTINUE_RESPONSE_BODY,
    CONTINUE_RESPONSE_HEADERS,
    CONTINUE_RESPONSE_TRAILERS,
    MARK_RESPONSE_HEADERS,
    NO_MUTATION,
    HeaderMutation,
    immediate_response,
    route_in_body,
    route_in_headers,
    route_in_trailers,
)

__all__ = [
    "CONTINUE_REQUEST_BODY",
    "CONTINUE_REQUEST_HEADERS",
    "CONTINUE_REQUEST_TRAILERS",
    "CONTINUE_RESPONSE_BODY",
    "CONTINUE_RESPONSE_HEADERS",
    "CONTINUE_RESPONSE_TRAILERS",
    "ProcessingRequest",
    "MessageType",
    "MARK_RESPONSE_HEADERS",
    "BodyMode",
    "HeaderMutation",
    "NO_MUTATION",
    "route_in_body",
    "route_in_headers",
    "route_in_trailers",
    "decode",
    "count_header_bytes",
    "immediate_response",
    "request_body_unchanged",
    "request_body_chunk",
    "response_body_unchanged",
    "response_body_chunk",
    "parse_served_endpoint",
    "parse_subset_hint",
]
