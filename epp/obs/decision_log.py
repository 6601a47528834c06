"""The last routing decisions, kept as they were made and rendered only on request."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from epp.headers import REQUEST_ID
from epp.obs.logs import VERBOSE
from epp.requestcontrol.director import DecisionRecord
from epp.scheduling.explain import explain_result

KEPT_PER_SECOND = 200.0
KEPT_BURST = 64
_INTERVAL = 1.0 / KEPT_PER_SECOND
_BURST_SECONDS = KEPT_BURST * _INTERVAL


class DecisionLog:
    """A ring buffer of decisions; `record` is the director's `on_decision`. At `--v 3` each is logged too.

    All rejections are kept. Routed requests are sampled by a token bucket of `KEPT_PER_SECOND` and `KEPT_BURST`, so
    that the ring of a busy picker covers seconds instead of milliseconds, and does not cycle through more memory than
    the CPU's caches hold.
    """

    def __init__(self, limit: int = 256, log: logging.Logger | None = None) -> None:
        self._ring: deque[DecisionRecord] = deque(maxlen=limit)
        self._log = logging.getLogger("epp.requests") if log is None else log
        # The bucket as a virtual time (GCRA): every kept decision moves it by `_INTERVAL`; it may run ahead of the wall
        # clock by `_BURST_SECONDS`.
        self._used_until = 0.0
        self.count = 0

    def __len__(self) -> int:
        return len(self._ring)

    def record(self, record: DecisionRecord) -> None:
        """A decision was made."""
        self.count += 1
        ahead = self._used_until - record.wall_time
        if not _BURST_SECONDS - _INTERVAL < ahead <= _BURST_SECONDS or record.rejection:
            self._ring.append(record)
            # Outside these bounds the bucket is full again: idle for long, or the wall clock was put back.
            is_current = 0.0 < ahead <= _BURST_SECONDS
            self._used_until = record.wall_time + (min(ahead + _INTERVAL, _BURST_SECONDS) if is_current else _INTERVAL)
        if self._log.isEnabledFor(VERBOSE):
            self._log_decision(record)

    def render_newest(self, limit: int = 20, request_id: str = "") -> list[dict[str, Any]]:
        """At most `limit` decisions as plain data, newest first; only those of one request if `request_id` is given."""
        rendered: list[dict[str, Any]] = []
        for record in reversed(self._ring):
            if len(rendered) >= limit:
                break
            if not request_id or record.request_id == request_id:
                rendered.append(render_decision(record))
        return rendered

    def _log_decision(self, record: DecisionRecord) -> None:
        self._log.log(
            VERBOSE,
            "request rejected" if record.rejection else "request routed",
            extra={
                REQUEST_ID: record.request_id,
                "model": record.model,
                "path": record.path,
                "destination": record.destination,
                "refusal": record.rejection,
                "seconds": round(record.seconds, 6),
            },
        )


def render_decision(record: DecisionRecord) -> dict[str, Any]:
    """One decision as plain data; `profiles` as `epp.scheduling.explain` renders them."""
    return {
        "time": record.wall_time,
        "request_id": record.request_id,
        "model": record.model,
        "path": record.path,
        "seconds": record.seconds,
        "destination": record.destination,
        "refusal": record.rejection,
        "profiles": [explain_result(result) for result in record.results.values()],
    }
