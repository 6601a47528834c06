"""Retry policy for failed attempts: whether to retry, after how long, and over a new connection. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from random import Random
from typing import NamedTuple

import msgspec

from epp.errors import NoEndpoints, Overloaded

SATURATED, NO_ENDPOINTS, SHUTTING_DOWN = (
    Overloaded.dropped_reason, NoEndpoints.dropped_reason, "rejected-shutting-down",
)  # fmt: skip
"""Reasons in epp.headers.REQUEST_DROPPED_REASON (llm-d's RequestDroppedReason); the last one is sent by llm-d only."""
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})
"""Besides 5xx: those that the openai library itself retries (`BaseClient._should_retry`), and 425 Too Early."""


class AttemptFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one attempt failed."""

    status: int = 0
    """HTTP status; 0 without a response, or if it was cut off."""
    reason: str = ""
    """Value of the response header REQUEST_DROPPED_REASON; empty if the picker sent none."""
    retry_after: float | None = None
    """The server's Retry-After in seconds."""
    message: str = ""
    permanent: bool = False
    """A retry cannot succeed, whatever the status."""

    def __str__(self) -> str:
        parts = (f"HTTP {self.status}" if self.status else "", self.reason, self.message)
        return ", ".join(part for part in parts if part)

    @property
    def label(self) -> str:
        """Kind of the failure, as counted in `Summary.refusals`."""
        return self.reason or (f"HTTP {self.status}" if self.status else "no answer")

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return not self.permanent and (self.status == 0 or self.status in _RETRYABLE_STATUSES or self.status >= 500)


class Backoff(NamedTuple):
    """Exponential backoff in seconds: `first`, doubled with every further failure of the same kind, up to `longest`.

    If `first` is 0, the second pause is `_SECOND_PAUSE`. `reconnect`: the retry uses a new connection.
    """

    first: float
    longest: float
    reconnect: bool = False


_SECOND_PAUSE = 0.5
_BACKOFFS = {
    SATURATED: Backoff(0.5, 15.0),
    NO_ENDPOINTS: Backoff(5.0, 60.0),  # model servers take minutes to start
    SHUTTING_DOWN: Backoff(0.0, 5.0, reconnect=True),
}
_BUSY_BACKOFF = Backoff(1.0, 30.0)
_NO_ANSWER_BACKOFF = Backoff(1.0, 30.0, reconnect=True)


class RetryDelay(NamedTuple):
    """Retry after `seconds`, over a new connection if `reconnect`."""

    seconds: float
    reconnect: bool


def compute_retry_delay(failure: AttemptFailure, repeats: int, rng: Random) -> RetryDelay:
    """The delay before the next attempt; `repeats` failures of the same kind came directly before this one.

    Retry-After is a lower bound. Random jitter of up to 25 % spreads requests that failed together. The first failure
    of a picker that shuts down is retried immediately: its replacement is usually ready.
    """
    backoff = _BACKOFFS.get(failure.reason) or (_NO_ANSWER_BACKOFF if failure.status == 0 else _BUSY_BACKOFF)
    doublings, first = (repeats, backoff.first) if backoff.first else (repeats - 1, _SECOND_PAUSE)
    seconds = min(backoff.longest, first * 2.0 ** min(doublings, 10)) if doublings >= 0 else 0.0
    return RetryDelay(max(seconds, failure.retry_after or 0.0) * rng.uniform(1.0, 1.25), backoff.reconnect)


class OutageTimer:
    """Measures an outage over all requests: from the first failure since the last answer.

    A failure more than `memory` seconds after the previous one begins a new outage. Monotonic times in seconds.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._since = self._last = float("-inf")

    def record_answer(self) -> None:
        """Ends the outage."""
        self._last = float("-inf")

    def record_failure(self, now: float) -> float:
        """Records a failure at `now`; returns the seconds since the outage began."""
        if now - self._last > self._memory:
            self._since = now
        self._last = now
        return now - self._since


def parse_retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds of `Retry-After` (number or date, RFC 9110 section 10.2.3); None if absent or invalid.

    OpenAI's `retry-after-ms` takes precedence, as in the openai library. `wall` is the current Unix time.
    """
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        text = headers.get("retry-after", "").strip()
        if text.replace(".", "", 1).isdigit():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall) if text else None
    except (ValueError, OverflowError):
        return None
