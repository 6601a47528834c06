"""The shapes a plugin can have.

A plugin is a class; its annotated fields are its parameters (camelCase in YAML), its docstring is its catalogue
entry, an entry point in the group `epp.plugins` registers it:

    class QueueDepth(Scorer, type="queue-scorer"):
        \"\"\"Prefer endpoints with a short waiting queue.\"\"\"
        needs = (WAITING,)

        def score(self, request: Request, endpoints: Endpoints) -> Scores:
            return falling(endpoints[WAITING])

State that is no parameter is set in `__post_init__`. What happens when a plugin raises or returns nonsense is fixed:
a scorer counts as neutral for that request, a filter rejects it with 503, a producer leaves NaN, an observer is
counted; every case names the plugin in `epp_plugin_faults_total`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, Any, ClassVar, Protocol

import msgspec

from epp.api.columns import Column, Fact
from epp.api.endpoints import Endpoint, Endpoints
from epp.api.request import Request
from epp.api.types import Mask, Order, Scores, Values
from epp.errors import NoEndpoints, Overloaded, Reject

Need = Column | Fact


class _PluginMeta(msgspec.StructMeta):
    """Lets `class X(Scorer, type="x")` name the type of the plugin; unknown parameters are fatal everywhere."""

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], type: str = "", **options: Any
    ) -> Any:
        options.setdefault("forbid_unknown_fields", True)
        cls = super().__new__(mcls, name, bases, namespace, **options)
        if type:
            cls.type = type  # type: ignore[attr-defined]
        return cls

    def __init__(cls, *args: Any, type: str = "", **options: Any) -> None: ...  # noqa: N805


class Plugin(msgspec.Struct, metaclass=_PluginMeta, kw_only=True, dict=True, eq=False, rename="camel"):
    """What all plugins share.

    `needs` names the columns and facts it reads, `gives` those it produces: start-up checks that every need has a
    producer and adds default producers. `alpha` plugins load only with `--allow-experimental-plugins`.
    `lenient` plugins ignore unknown parameters with a warning, because configurations in use rely on it.
    """

    type: ClassVar[str] = ""
    needs: ClassVar[tuple[Need, ...]] = ()
    gives: ClassVar[tuple[Need, ...]] = ()
    alpha: ClassVar[bool] = False
    lenient: ClassVar[bool] = False

    def wants(self) -> tuple[Need, ...]:
        """`needs`, unless they depend on parameters."""
        return self.needs


class Filter(Plugin):
    """Keeps some endpoints. `otherwise` is how the request ends when nothing is left."""

    otherwise: ClassVar[type[Reject]] = Overloaded

    def keep(self, request: Request, endpoints: Endpoints) -> Mask:
        """bool[n], true keeps."""
        raise NotImplementedError


class Scorer(Plugin):
    """Says how good each endpoint is.

    `of_request` False: the scores follow from scraped columns alone, whatever the request; they are then computed once
    a scrape instead of once a request.
    """

    of_request: ClassVar[bool] = True

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        """A new float32[n] in [0, 1], more is better, NaN for no opinion (counts as 0.5)."""
        raise NotImplementedError


class Picker(Plugin):
    """Chooses from the scored endpoints."""

    max_num_of_endpoints: Annotated[int, msgspec.Meta(ge=1)] = 1

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Order:
        """Positions, best first, at most `max_num_of_endpoints`; `totals` is the weighted sum float32[n]."""
        raise NotImplementedError


Produced = Mapping[Need, Any]
"""Columns as float32[n], facts as what they are."""


class Producer(Plugin):
    """Adds columns and facts before filters and scorers run; in the order in which producers need each other."""

    def produce(self, request: Request, endpoints: Endpoints) -> Produced:
        """What `gives` promises for these candidates."""
        raise NotImplementedError


class AsyncProducer(Plugin):
    """A producer that does I/O. All of them share one deadline; a late one leaves NaN."""

    async def produce(self, request: Request, endpoints: Endpoints) -> Produced:
        """What `gives` promises for these candidates."""
        raise NotImplementedError


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How a request ended. `status` 0 is unknown; `cause`: completed, disconnected, error, expired or replaced.

    Replaced: a scrape counts it from now on, so that its real end is not seen; expired: nobody ever told of it.
    """

    cause: str
    status: int = 0
    seconds: float = 0.0
    ttft_seconds: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


class Observer(Protocol):
    """What a plugin of any kind may implement besides, to learn what became of its advice. Must not block."""

    def picked(self, request: Request, chosen: Mapping[str, int]) -> None:
        """The decision: profile name -> slot of its first endpoint; the primary profile comes first."""

    def ended(self, request: Request, slot: int, how: Ended) -> None:
        """The request is over; called exactly once for every `picked`."""

    def forgotten(self, slot: int) -> None:
        """The endpoint at this slot left the pool; the slot may be given to another."""


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What a request weighs while it is in flight."""

    prompt_tokens: float
    output_tokens: float = 0.0


class Charger(Protocol):
    """A producer that also says what a request weighs in the in-flight ledger."""

    def charge(self, request: Request, endpoints: Endpoints, position: int) -> Charge:
        """The weight if the request goes to the endpoint at `position`."""


class ProfileHandler(Plugin):
    """Says which profiles run, and whose choice is the destination."""

    def objections(self, available: Sequence[str]) -> Sequence[str]:
        """What is wrong with these profiles for this handler; asked once, at start."""
        return ()

    def profiles(self, request: Request, available: Sequence[str], done: Mapping[str, bool]) -> Sequence[str]:
        """Names of the profiles to run next; none ends the decision. `done`: profile -> it found an endpoint."""
        raise NotImplementedError

    def primary(self, request: Request, done: Mapping[str, bool]) -> str:
        """The profile whose endpoints become the destination."""
        raise NotImplementedError

    def headers(self, request: Request, chosen: Mapping[str, Endpoint]) -> Mapping[str, str]:
        """Request headers to set for the model server besides the destination."""
        return {}


class Parsed(msgspec.Struct):
    """What a parser read from a request body. `model` None: the body has a parser-known shape but no model."""

    model: str | None = None
    text: bytes = b""
    token_ids: bytes = b""
    cache_salt: str = ""
    max_output_tokens: int | None = None
    streaming: bool = False


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one answer; None where the model server did not say."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None


class UsageReader(Protocol):
    """Reads token usage from a response body that arrives in pieces."""

    def feed(self, data: bytes) -> None:
        """The next piece, cut anywhere."""

    def usage(self) -> Usage:
        """What is known so far."""


class Parser(Plugin):
    """Understands one API. Chosen by the longest of `paths` that the request path ends with; no paths: the fallback."""

    paths: ClassVar[tuple[str, ...]] = ()

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> Parsed:
        """The request, or `BadRequest`."""
        raise NotImplementedError

    def usage_reader(self, path: str, streaming: bool) -> UsageReader | None:
        """A reader for the answer to such a request; None if there is nothing to learn from it."""
        return None


class Discovery(Plugin):
    """Names where endpoints come from; the data layer runs it."""


class DataSource(Plugin):
    """Names how endpoint state is fetched; the data layer runs it."""


class Extractor(Plugin):
    """Names how fetched state is read; the data layer runs it."""


class Policy(Plugin):
    """Admission, saturation and flow-control settings; read by the component that they configure."""


__all__ = [
    "AsyncProducer",
    "Charge",
    "Charger",
    "DataSource",
    "Discovery",
    "Ended",
    "Extractor",
    "Filter",
    "Need",
    "NoEndpoints",
    "Observer",
    "Overloaded",
    "Parsed",
    "Parser",
    "Picker",
    "Plugin",
    "Policy",
    "Produced",
    "Producer",
    "ProfileHandler",
    "Scorer",
    "Usage",
    "UsageReader",
]
