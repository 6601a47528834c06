"""Plugin kinds of the data layer: where endpoints come from, and where their live state comes from.

    Discovery ──DiscoveryNotifier──▶ endpoint store ◀──columns── Extractor ◀──payloads── DataSource
                (list, watch events)                 (EndpointUpdate)      (EndpointReceiver)

The data layer (`epp.datalayer`) owns the life cycle of all three kinds: it starts them, restarts what fails, and stops
them. It calls every method on the event loop, so implementations need no locks, must not block it, and must make their
calls from it as well (`loop.call_soon_threadsafe` for data that another thread receives).

llm-d's counterparts are EndpointDiscovery, DiscoveryNotifier, DataSource and Extractor of
pkg/epp/framework/interface/datalayer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from epp.api.columns import Column
from epp.api.endpoints import Endpoint, LoraAdapters
from epp.api.plugins import Plugin
from epp.clock import Clock
from epp.errors import DataSourceError

_Class = type  # in the body of a plugin class, `type` is the plugin's type


class DiscoveryNotifier(Protocol):
    """How one discovery reports endpoints. Made by the data layer, one for each call of `Discovery.run`.

    Calls take effect at once and in the order in which they are made. Each discovery has a set of its own, so
    `replace_all` never removes what another discovery has reported. The pool is the union of the sets; if two
    discoveries report endpoints of one name, the pool has that of the one configured first. Every call is idempotent.
    Calls after the `run` that the notifier was made for has ended have no effect.
    """

    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        """Replaces all endpoints of this discovery: its first list, or a relist. Implies `mark_synced`."""

    def upsert(self, endpoint: Endpoint) -> None:
        """Adds the endpoint, or replaces the one of that name (a watch event).

        Changed labels keep what is known of the endpoint. A changed address or port means another server: everything
        that is known of the old one is discarded.
        """

    def delete(self, name: str) -> None:
        """Removes the endpoint of that name (a watch event); without effect if there is none."""

    def mark_synced(self) -> None:
        """The list of this `run` is complete. For discoveries whose list arrives as single `upsert` calls.

        Endpoints that an earlier `run` has reported, and this one has not, are removed. Further calls have no effect.
        """


class Discovery(Plugin):
    """Finds the endpoints of the pool and reports them as they come and go.

    Contract of `run`:

    - It reports through the notifier and runs until it is cancelled; it must not suppress the cancellation. It may
      return after the first list if no change will follow. Its endpoints stay in the pool after it has ended.
    - First list: `replace_all`, or single `upsert` calls and then `mark_synced`; it may be empty. The picker reports
      ready (`grpc.health.v1` SERVING, `/readyz`) once every configured discovery has delivered it.
    - Failure: an exception is logged and `run` is called again after 0.1 s, doubling to 5 s; until then the
      endpoints stay as last reported. The new call gets a new notifier and must list again, because events may have
      been missed in between. Returning before that list counts as a failure, and so does a CancelledError that does
      not come from a cancellation of `run` (a client library may cancel its own calls).
    - A `ConfigError` before the first list ends the start of the picker with its message (exit code 2). Once the
      picker has stopped waiting for first lists, after 5 s, it is a failure like others.
    - One call runs at a time, in a task of its own.
    """

    @abstractmethod
    async def run(self, notifier: DiscoveryNotifier) -> None:
        """Lists and watches endpoints until cancelled."""
        raise NotImplementedError


class EndpointUpdate(msgspec.Struct, frozen=True, gc=False):
    """State of one endpoint, extracted from one payload. Columns that are left out or NaN become unknown.

    `lora_adapters` None: the payload says nothing of LoRA adapters, those known before stay.
    """

    values: Mapping[Column, float]
    lora_adapters: LoraAdapters | None = None


class EndpointExtractor(ABC):
    """Reads the successive payloads of one endpoint; it may keep state between them, of that endpoint only.

    Not llm-d's type of that name, which receives the joining and leaving of endpoints.
    """

    @abstractmethod
    def extract(self, payload: Any) -> EndpointUpdate | None:
        """The columns in this payload; None if it changes none of them.

        Synchronous, without I/O, and at most a few hundred microseconds: it runs on the event loop between requests.
        The payload may be a view of a buffer that is reused afterwards: copy what is kept. Raise `DataSourceError`
        for a payload that cannot be read; it is counted and logged, and the endpoint's values become stale.
        """

    def close(self) -> None:  # noqa: B027 - optional: most extractors hold nothing
        """Releases what the extractor holds: the endpoint has left the pool, or its labels have changed.

        Called once, before another extractor is opened for the slot.
        """


class Extractor(Plugin):
    """Turns what a data source delivers into values of columns, or into state of its own.

    `columns` lists the columns that it writes: a class attribute, or assigned in `__post_init__` where parameters
    decide. In one configuration a column is written by one extractor, the first that lists it; values that a later one
    extracts for it are ignored, with a warning at start. Values age by the deliveries of their own extractor.
    `payload_type` is the type of the payloads that it reads: that of the sources it is bound to, or a base class.

    An extractor whose state is not a column, such as an index of KV-cache blocks that a producer reads, lists none and
    returns None from `extract`. One plugin may be extractor and producer: `class Index(Producer, Extractor)`.
    """

    payload_type: ClassVar[_Class] = object
    if TYPE_CHECKING:  # assignable on instances, and yet no parameter
        columns: tuple[Column, ...] = ()
    else:
        columns = ()

    @abstractmethod
    def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
        """An extractor for an endpoint that has joined at `slot`; closed when it leaves.

        Called again for the same slot, after `close`, when the endpoint's labels change. If it raises, the error is
        logged and the columns of this extractor stay unknown for the endpoint.
        """
        raise NotImplementedError


class EndpointReceiver(Protocol):
    """Takes what a data source receives for one endpoint. Made by the data layer, one for each source and endpoint."""

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint as discovery has reported it."""
        ...

    @property
    def failures(self) -> int:
        """Consecutive failures; 0 after a payload that was read. Pull sources derive their backoff from it."""
        ...

    def deliver(self, payload: Any, observed_at: float | None = None) -> bool:
        """Runs the bound extractors over the payload; False if one of them could not read it.

        `observed_at` is the time of the state, in seconds of `DataSourceContext.clock` (monotonic); None, and a time
        that is not in the past, is now. A pull source gives the moment at which it sent its request, so that requests
        routed after it are not assumed to be part of the state. Columns of an older state than the newest are dropped,
        as is every delivery after the endpoint has left. Never raises.
        """

    def record_failure(self, reason: str) -> None:
        """The endpoint could not be read. Counted, and logged if the read before succeeded. Values become stale."""


class DataSourceContext(Protocol):
    """What the data layer provides to a data source."""

    @property
    def clock(self) -> Clock:
        """The picker's clock."""
        ...

    @property
    def rng(self) -> Random:
        """Random numbers, reproducible with `--seed`; for jitter."""
        ...

    @property
    def refresh_interval(self) -> float:
        """Seconds between two reads of an endpoint, for pull sources without an interval of their own."""
        ...

    def receiver(self, endpoint_name: str) -> EndpointReceiver | None:
        """The receiver of an endpoint of the pool; None if there is no such endpoint."""

    def receivers(self) -> Sequence[EndpointReceiver]:
        """The receivers of all endpoints at present."""


class DataSource(Plugin):
    """Obtains live state of endpoints, by asking them (pull) or by listening (push), and delivers it as payloads.

    A source implements `run_endpoint`, if it has a connection to each endpoint, or `run`, if it has one for all, or
    both. Order of calls: `start`; `run`; `run_endpoint` for each endpoint of the pool; at the end all of them are
    cancelled, and when they have ended, `close`. Different sources, and different endpoints of one source, are
    independent: they run concurrently, and a failure of one does not delay another.

    `payload_type` is the type of the payloads delivered; extractors are checked against it at start.
    """

    payload_type: ClassVar[_Class] = object

    def start(self, context: DataSourceContext) -> None:
        """Prepares; called once, before anything else. A `ConfigError` ends the start of the picker (exit code 2)."""

    async def run(self) -> None:
        """Serves all endpoints with one subscription, delivering to `context.receiver(name)`, until cancelled.

        An exception is logged, and `run` is called again after 0.1 s, doubling to 5 s. The default returns at once.
        """

    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        """Serves one endpoint until cancelled, which it must not suppress. The default returns at once.

        Called when the endpoint joins the pool, and cancelled when it leaves. When its labels change, the call is
        cancelled, and after it has ended a new one begins with the new `Endpoint`: for one endpoint name one call
        runs at a time. An exception, or a CancelledError that is not its cancellation, counts as a failure of the
        endpoint (`receiver.record_failure`), and the call is made again after 0.1 s, doubling to 5 s; what the
        endpoint's extractors remember stays, so a source of changes must begin again with the whole state. Returning
        means that nothing more will be delivered for it.
        """

    async def close(self) -> None:
        """Releases what `start` has acquired; called once, after the other methods have ended."""


class MetricsPage(msgspec.Struct, frozen=True, gc=False):
    """Payload of `metrics-data-source`: a Prometheus text page, `buffer[start:end]`.

    The buffer is reused for other pages after `extract` has returned.
    """

    buffer: bytes | bytearray
    start: int
    end: int


__all__ = [
    "DataSource",
    "DataSourceContext",
    "DataSourceError",
    "Discovery",
    "DiscoveryNotifier",
    "EndpointExtractor",
    "EndpointReceiver",
    "EndpointUpdate",
    "Extractor",
    "MetricsPage",
]
