"""Envoy's gRPC access log: one long stream a worker thread, a message every flush interval."""

from __future__ import annotations

import logging

from epp.extproc import messages
from epp.extproc.rpc import Call, Methods
from epp.sched.exchange import LogSink

log = logging.getLogger("epp.extproc.accesslog")


def methods(sink: LogSink) -> Methods:
    """StreamAccessLogs, every entry of which goes to the sink."""
    return {"/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs": lambda call: AccessLogHandler(call, sink)}


class AccessLogHandler:
    """Implements `rpc.Handler`."""

    __slots__ = ("_call", "_sink")

    def __init__(self, call: Call, sink: LogSink) -> None:
        self._call = call
        self._sink = sink

    def message(self, data: bytes) -> None:
        try:
            entries = messages.log_entries(data)
        except messages.NotUnderstood as error:
            self._call.finish(3, str(error))
            return
        for entry in entries:
            try:
                self._sink(entry)
            except Exception:
                log.exception("an access log entry failed", extra={"x-request-id": entry.request_id})

    def half_closed(self) -> None:
        self._call.finish()

    def lost(self) -> None:
        """Envoy opens another; entries in between expire."""
