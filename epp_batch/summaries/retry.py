"""What to do after a refusal: wait how long, go elsewhere, or give up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from random import Random
from typing import NamedTuple

import msgspec

DROPPED_REASON_HEADER = "x-llm-d-request-dropped-reason"
SATURATED, NO_ENDPOINTS, SHUTTING_DOWN = "rejected-saturated", "rejected-no-endpoints", "rejected-shutting-down"
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})


class AttemptFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one attempt brought no summary."""

    status: int = 0
    """HTTP status; 0 where there was no answer, or only half of one."""
    reason: str = ""
    """`x-llm-d-request-dropped-reason`, if the picker gave one."""
    retry_after: float | None = None
    """Seconds that the server asked for."""
    message: str = ""
    permanent: bool = False
    """It would be the same again, whatever the status says."""

    def __str__(self) -> str:
        parts = (f"HTTP {self.status}" if self.status else "", self.reason, self.message)
        return ", ".join(part for part in parts if part)

    @property
    def label(self) -> str:
        """Which kind of refusal it is."""
        return self.reason or (f"HTTP {self.status}" if self.status else "no answer")

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may be answered later."""
        return not self.permanent and (self.status == 0 or self.status in _RETRYABLE_STATUSES or self.status >= 500)


class Backoff(NamedTuple):
    """Seconds that double with every refusal of the same kind, from `_SECOND` on where the first pause is none.

    `elsewhere`: not over the same connection.
    """

    first: float
    longest: float
    reconnect: bool = False


_SECOND_PAUSE = 0.5
_BACKOFFS = {
    SATURATED: Backoff(0.5, 15.0),
    NO_ENDPOINTS: Backoff(5.0, 60.0),  # servers start in minutes, not in seconds
    SHUTTING_DOWN: Backoff(0.0, 5.0, reconnect=True),
}
_BUSY_BACKOFF = Backoff(1.0, 30.0)
_NO_ANSWER_BACKOFF = Backoff(1.0, 30.0, reconnect=True)


class RetryDelay(NamedTuple):
    """Try again after `seconds`."""

    seconds: float
    reconnect: bool


def compute_retry_delay(refusal: AttemptFailure, before: int, rng: Random) -> RetryDelay:
    """How long after a refusal, when `before` of the same kind came right before it.

    A server's Retry-After is a lower bound. Up to a quarter is added at random, so that those refused together do not
    come back together. The first refusal by a picker that shuts down costs no wait: another one is there already.
    """
    pause = _BACKOFFS.get(refusal.reason) or (_NO_ANSWER_BACKOFF if refusal.status == 0 else _BUSY_BACKOFF)
    doublings, first = (before, pause.first) if pause.first else (before - 1, _SECOND_PAUSE)
    seconds = min(pause.longest, first * 2.0 ** min(doublings, 10)) if doublings >= 0 else 0.0
    return RetryDelay(max(seconds, refusal.retry_after or 0.0) * rng.uniform(1.0, 1.25), pause.reconnect)


class OutageTimer:
    """How long nobody was answered: what fails for one of many waiting requests fails for all of them.

    A refusal after `memory` seconds without any begins a new outage.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._since = self._last = float("-inf")

    def record_answer(self) -> None:
        """It is over."""
        self._last = float("-inf")

    def record_failure(self, now: float) -> float:
        """Seconds from the first refusal of the outage to this one, at monotonic time `now`."""
        if now - self._last > self._memory:
            self._since = now
        self._last = now
        return now - self._since


def parse_retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds from now, of `retry-after-ms` or `Retry-After` in either form; None if there is none that can be read."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        text = headers.get("retry-after", "").strip()
        if text.replace(".", "", 1).isdigit():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall) if text else None
    except (ValueError, OverflowError):
        return None
