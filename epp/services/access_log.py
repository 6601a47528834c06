"""Envoy's gRPC access log: one long stream a worker thread, a message every flush interval."""

from __future__ import annotations

import logging
from typing import Final

from epp.errors import NotUnderstood
from epp.grpc.long_lived import Standing
from epp.grpc.rpc import Call, Methods
from epp.requestcontrol.interfaces import REQUEST_ID, LogSink
from epp.services import codec

log = logging.getLogger("epp.services.access_log")

INVALID_ARGUMENT: Final = 3
STREAM: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


def methods(sink: LogSink, standing: Standing | None = None) -> Methods:
    """StreamAccessLogs, every entry of which goes to the sink; open streams stand in `standing`."""
    stand = Standing() if standing is None else standing
    return {STREAM: lambda call: AccessLogHandler(call, sink, stand)}


class AccessLogHandler:
    """Implements `rpc.Handler`."""

    __slots__ = ("_call", "_sink", "_standing")

    def __init__(self, call: Call, sink: LogSink, standing: Standing) -> None:
        self._call = call
        self._sink = sink
        self._standing = standing
        standing.add(self)

    def message(self, data: bytes) -> None:
        try:
            entries = codec.log_entries(data)
        except NotUnderstood as error:
            self.end(INVALID_ARGUMENT, str(error))
            return
        for entry in entries:
            try:
                self._sink(entry)
            except Exception:
                log.exception("an access log entry failed", extra={REQUEST_ID: entry.request_id})

    def half_closed(self) -> None:
        self.end()

    def lost(self) -> None:
        """Envoy opens another; entries in between expire."""
        self._standing.discard(self)

    def end(self, status: int = 0, reason: str = "") -> None:
        """Finishes the RPC."""
        self._standing.discard(self)
        self._call.finish(status, reason)
