"""A destination, and protobuf's reading of a reply."""

from __future__ import annotations

from epp.pb import ext_proc_pb2

POD = "10.0.0.1:8000"


def parse_response(message: bytes) -> ext_proc_pb2.ProcessingResponse:
    return ext_proc_pb2.ProcessingResponse.FromString(message)
