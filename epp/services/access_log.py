"""Envoy's gRPC access log service: one stream for each of its worker threads, one message every flush interval."""

from __future__ import annotations

import logging
from typing import Final

from epp.errors import DecodeError
from epp.grpc.framing import StatusCode
from epp.grpc.long_lived import LongLivedRpcs
from epp.grpc.rpc import RpcMethods, ServerCall
from epp.headers import REQUEST_ID
from epp.requestcontrol.completion import AccessLogSink
from epp.services import codec

log = logging.getLogger("epp.services.access_log")

STREAM_ACCESS_LOGS_METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


def access_log_methods(sink: AccessLogSink, long_lived_rpcs: LongLivedRpcs | None = None) -> RpcMethods:
    """StreamAccessLogs: `sink` is called with every entry. Open streams are registered in `long_lived_rpcs`."""
    rpcs = LongLivedRpcs() if long_lived_rpcs is None else long_lived_rpcs
    return {STREAM_ACCESS_LOGS_METHOD: lambda call: AccessLogHandler(call, sink, rpcs)}


class AccessLogHandler:
    """Implements `RpcHandler` and `LongLivedRpc`. An entry on which the sink fails is logged and skipped."""

    __slots__ = ("_call", "_long_lived_rpcs", "_sink")

    def __init__(self, call: ServerCall, sink: AccessLogSink, long_lived_rpcs: LongLivedRpcs) -> None:
        self._call = call
        self._sink = sink
        self._long_lived_rpcs = long_lived_rpcs
        long_lived_rpcs.add(self)

    def on_message(self, data: bytes) -> None:
        try:
            entries = codec.decode_log_entries(data)
        except DecodeError as error:
            self.finish(StatusCode.INVALID_ARGUMENT, str(error))
            return
        for entry in entries:
            try:
                self._sink(entry)
            except Exception:
                log.exception("an access log entry failed", extra={REQUEST_ID: entry.request_id})

    def on_half_close(self) -> None:
        self.finish()

    def on_cancel(self) -> None:
        """Envoy opens a new stream. Requests whose entries are lost in between expire."""
        self._long_lived_rpcs.discard(self)

    def finish(self, status: int = StatusCode.OK, message: str = "") -> None:
        self._long_lived_rpcs.discard(self)
        self._call.finish(status, message)
