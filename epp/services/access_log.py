"""Envoy's gRPC access log: one long stream a worker thread, a message every flush interval."""

from __future__ import annotations

import logging
from typing import Final

from epp.errors import DecodeError
from epp.grpc.long_lived import LongLivedRpcs
from epp.grpc.rpc import RpcMethods, ServerCall
from epp.headers import REQUEST_ID
from epp.requestcontrol.completion import AccessLogSink
from epp.services import codec

log = logging.getLogger("epp.services.access_log")

INVALID_ARGUMENT: Final = 3
STREAM_ACCESS_LOGS_METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


def access_log_methods(sink: AccessLogSink, standing: LongLivedRpcs | None = None) -> RpcMethods:
    """StreamAccessLogs, every entry of which goes to the sink; open streams stand in `standing`."""
    stand = LongLivedRpcs() if standing is None else standing
    return {STREAM_ACCESS_LOGS_METHOD: lambda call: AccessLogHandler(call, sink, stand)}


class AccessLogHandler:
    """Implements `rpc.Handler`."""

    __slots__ = ("_call", "_long_lived_rpcs", "_sink")

    def __init__(self, call: ServerCall, sink: AccessLogSink, standing: LongLivedRpcs) -> None:
        self._call = call
        self._sink = sink
        self._long_lived_rpcs = standing
        standing.add(self)

    def on_message(self, data: bytes) -> None:
        try:
            entries = codec.decode_log_entries(data)
        except DecodeError as error:
            self.finish(INVALID_ARGUMENT, str(error))
            return
        for entry in entries:
            try:
                self._sink(entry)
            except Exception:
                log.exception("an access log entry failed", extra={REQUEST_ID: entry.request_id})

    def on_half_close(self) -> None:
        self.finish()

    def on_cancel(self) -> None:
        """Envoy opens another; entries in between expire."""
        self._long_lived_rpcs.discard(self)

    def finish(self, status: int = 0, reason: str = "") -> None:
        """Finishes the RPC."""
        self._long_lived_rpcs.discard(self)
        self._call.finish(status, reason)
