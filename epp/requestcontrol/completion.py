"""How the end of a routed request becomes known: from its response, from Envoy's access log, or from the next scrapes.

With the last two the ext_proc stream is closed after the request phase. Nobody then tells us of the first byte while
the answer runs, so the moment is predicted from those seen: prompt tokens must not weigh on an endpoint that has long
been decoding.
"""

from __future__ import annotations

import heapq
import itertools
from random import Random
from typing import Protocol

from epp.clock import Clock
from epp.datastore.ledger import Ledger
from epp.requestcontrol.inflight_request import InflightRequest
from epp.requestcontrol.interfaces import AccessLogEntry

INITIAL_PREFILL_TOKENS_PER_SECOND = 15928.0  # llm-d's peakPrefillThroughput, until something has been seen
ARRIVAL_DELAY_SECONDS = 0.03  # a request chosen this shortly before a scrape may not have reached the pod yet


class Completion(Protocol):
    """One way to learn of ends. `follow` is called for requests that are not observed."""

    def should_observe(self) -> bool:
        """Whether to keep the stream of the request at hand open and learn from its response."""

    def track(self, flight: InflightRequest) -> None:
        """Takes charge of ending the flight."""

    def untrack(self, flight: InflightRequest) -> None:
        """A followed flight ended, by this source or otherwise."""

    def tick(self) -> None:
        """Called every few tens of milliseconds."""


class ObservedCompletion:
    """Every response passes through us."""

    def should_observe(self) -> bool:
        return True

    def track(self, flight: InflightRequest) -> None:
        raise AssertionError("an observed request is followed by its stream")

    def untrack(self, flight: InflightRequest) -> None:
        """The stream was all there was."""

    def tick(self) -> None:
        """Nothing is predicted."""


class FirstBytePredictor:
    """When a request that nobody observes has probably begun to decode.

    Time to first byte is taken as proportional to half a constant plus half the uncached prompt tokens, both learnt as
    moving averages; a forecast, corrected by every request whose first byte is reported.
    """

    def __init__(self, clock: Clock, weight: float = 0.05) -> None:
        self._clock = clock
        self._weight = weight
        self._tokens = 1.0
        self._seconds = 1.0 / INITIAL_PREFILL_TOKENS_PER_SECOND
        self._learnt = False
        self._due: list[tuple[float, int, InflightRequest]] = []
        self._order = itertools.count()

    def record_first_byte(self, tokens: float, seconds: float) -> None:
        """One request's uncached prompt tokens and time to first byte."""
        if not self._learnt:
            self._tokens, self._seconds, self._learnt = tokens, seconds, True
            return
        self._tokens += self._weight * (tokens - self._tokens)
        self._seconds += self._weight * (seconds - self._seconds)

    def predict_seconds(self, tokens: float) -> float:
        """Expected time to the first byte."""
        return self._seconds * (0.5 + 0.5 * tokens / max(self._tokens, 1.0))

    def schedule_first_byte(self, flight: InflightRequest) -> None:
        """Tells the flight of its first byte when it is due."""
        due = flight.routed_at + self.predict_seconds(flight.prompt_tokens)
        heapq.heappush(self._due, (due, next(self._order), flight))

    def tick(self) -> None:
        """Tells those whose time has come."""
        now, due = self._clock.now(), self._due
        while due and due[0][0] <= now:
            heapq.heappop(due)[2].on_first_byte()  # without effect on a flight that is over


class _UnobservedCompletion:
    """What sources share that see no response: some requests are observed all the same, first bytes are forecast."""

    def __init__(self, clock: Clock, rng: Random, observed_share: float) -> None:
        self._rng = rng
        self._share = observed_share
        self._forecast = FirstBytePredictor(clock)

    def should_observe(self) -> bool:
        return bool(self._share) and self._rng.random() < self._share

    def tick(self) -> None:
        self._forecast.tick()


class AccessLogCompletion(_UnobservedCompletion):
    """Envoy's gRPC access log names the request id, the status and the endpoint of every request that ended."""

    def __init__(self, clock: Clock, rng: Random, observed_share: float = 0.0) -> None:
        super().__init__(clock, rng, observed_share)
        self._open: dict[str, InflightRequest] = {}
        # Clients may repeat an id: those that came while the one in `_open` was under way, oldest first.
        self._repeated: dict[str, dict[InflightRequest, None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def track(self, flight: InflightRequest) -> None:
        request_id = flight.request.id
        if self._open.setdefault(request_id, flight) is not flight:
            self._repeated.setdefault(request_id, {})[flight] = None
        self._forecast.schedule_first_byte(flight)

    def on_log_entry(self, entry: AccessLogEntry) -> None:
        """A line of the log; lines of requests that are not ours to follow are ignored."""
        flight = self._open.get(entry.request_id)
        if flight is None:
            return
        if entry.ttfb_seconds is not None:
            self._forecast.record_first_byte(flight.prompt_tokens, entry.ttfb_seconds)
        flight.on_log_entry(entry)

    def untrack(self, flight: InflightRequest) -> None:
        """The flight ended, by its log line or otherwise."""
        request_id = flight.request.id
        later = self._repeated.get(request_id)
        if later is None:
            if self._open.get(request_id) is flight:
                del self._open[request_id]
            return
        if self._open[request_id] is flight:
            self._open[request_id] = next(iter(later))
            del later[self._open[request_id]]
        else:
            later.pop(flight, None)
        if not later:
            del self._repeated[request_id]


class ScrapeCompletion(_UnobservedCompletion):
    """A reservation stands until a scrape taken after it shows the endpoint's own count of its requests."""

    def __init__(self, clock: Clock, rng: Random, ledger: Ledger, observed_share: float = 0.0) -> None:
        super().__init__(clock, rng, observed_share)
        self._ledger = ledger

    def track(self, flight: InflightRequest) -> None:
        self._forecast.schedule_first_byte(flight)

    def untrack(self, flight: InflightRequest) -> None:
        """The ledger has let go of it already."""

    def on_scrape(self, slot: int, started: float) -> None:
        """A scrape of this slot, begun at `started`, has arrived."""
        for ticket in self._ledger.reserved_before(slot, started - ARRIVAL_DELAY_SECONDS):
            flight = ticket.owner
            if isinstance(flight, InflightRequest) and flight.tracked:
                flight.finalize("replaced")
