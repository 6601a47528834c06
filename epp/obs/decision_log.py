"""The last decisions, kept as they were made and rendered only when somebody asks."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import Any

from epp.headers import REQUEST_ID
from epp.obs.logs import VERBOSE
from epp.requestcontrol.director import DecisionRecord
from epp.scheduling.explain import explain_result

KEPT_PER_SECOND = 200.0
KEPT_BURST = 64
_EACH = 1.0 / KEPT_PER_SECOND
_ROOM = KEPT_BURST * _EACH


class DecisionLog:
    """A bounded ring of decisions. `add` is the director's `on_decided`; at `--v 3` it writes one line each.

    Refusals are kept, all of them; of the rest `KEPT_A_SECOND`, and `KEPT_AT_ONCE` in a burst. So a busy picker shows
    seconds of its life, not the last few milliseconds, and does not cycle through memory that its caches cannot hold.
    """

    def __init__(self, limit: int = 256, log: logging.Logger | None = None) -> None:
        self._ring: deque[DecisionRecord] = deque(maxlen=limit)
        self._log = logging.getLogger("epp.requests") if log is None else log
        self._used_until = 0.0  # each one kept uses up `_EACH` seconds, at most `_ROOM` in advance
        self.count = 0

    def __len__(self) -> int:
        return len(self._ring)

    def record(self, decided: DecisionRecord) -> None:
        """One decision ended."""
        self.count += 1
        used = self._used_until - decided.wall_time
        if not _ROOM - _EACH < used <= _ROOM or decided.rejection:
            self._ring.append(decided)
            known = 0.0 < used <= _ROOM  # or else idle for long, or the clock was put back
            self._used_until = decided.wall_time + (min(used + _EACH, _ROOM) if known else _EACH)
        if self._log.isEnabledFor(VERBOSE):
            self._log_decision(decided)

    def render_newest(self, limit: int = 20, request_id: str = "") -> list[dict[str, Any]]:
        """Plain data, newest first: at most `limit`, or only those of one request."""
        chosen: list[dict[str, Any]] = []
        for decided in self._newest(request_id):
            if len(chosen) >= limit:
                break
            chosen.append(render_decision(decided))
        return chosen

    def _newest(self, request_id: str) -> Iterator[DecisionRecord]:
        return (item for item in reversed(self._ring) if not request_id or item.request_id == request_id)

    def _log_decision(self, decided: DecisionRecord) -> None:
        self._log.log(
            VERBOSE,
            "request refused" if decided.rejection else "request routed",
            extra={
                REQUEST_ID: decided.request_id,
                "model": decided.model,
                "path": decided.path,
                "destination": decided.destination,
                "refusal": decided.rejection,
                "seconds": round(decided.seconds, 6),
            },
        )


def render_decision(decided: DecisionRecord) -> dict[str, Any]:
    """One decision as plain data; `profiles` as `epp.scheduling.result.explain` shows them."""
    return {
        "time": decided.wall_time,
        "request_id": decided.request_id,
        "model": decided.model,
        "path": decided.path,
        "seconds": decided.seconds,
        "destination": decided.destination,
        "refusal": decided.rejection,
        "profiles": [explain_result(verdict) for verdict in decided.results.values()],
    }
