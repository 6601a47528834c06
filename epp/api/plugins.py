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

from epp.api.columns import Column, RequestAttribute
from epp.api.endpoints import Endpoint, Endpoints
from epp.api.request import Request
from epp.api.types import Mask, Positions, Scores, Values
from epp.errors import NoEndpoints, Overloaded, Rejection

DataKey = Column | RequestAttribute


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
    consumes: ClassVar[tuple[DataKey, ...]] = ()
    produces: ClassVar[tuple[DataKey, ...]] = ()
    experimental: ClassVar[bool] = False
    ignore_unknown_parameters: ClassVar[bool] = False

    def wants(self) -> tuple[DataKey, ...]:
        """`needs`, unless they depend on parameters."""
        return self.consumes


class Filter(Plugin):
    """Keeps some endpoints. `otherwise` is how the request ends when nothing is left."""

    rejection: ClassVar[type[Rejection]] = Overloaded

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
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

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        """Positions, best first, at most `max_num_of_endpoints`; `totals` is the weighted sum float32[n]."""
        raise NotImplementedError


ProducedData = Mapping[DataKey, Any]
"""Columns as float32[n], facts as what they are."""


class Producer(Plugin):
    """Adds columns and facts before filters and scorers run; in the order in which producers need each other."""

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        """What `gives` promises for these candidates."""
        raise NotImplementedError


class AsyncProducer(Plugin):
    """A producer that does I/O. All of them share one deadline; a late one leaves NaN."""

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        """What `gives` promises for these candidates."""
        raise NotImplementedError


class RequestOutcome(msgspec.Struct, frozen=True, gc=False):
    """How a request ended. `status` 0 is unknown; `cause`: completed, disconnected, error, expired or replaced.

    Replaced: a scrape counts it from now on, so that its real end is not seen; expired: nobody ever told of it.
    """

    cause: str
    status: int = 0
    duration_seconds: float = 0.0
    ttft_seconds: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


class RequestHooks(Protocol):
    """What a plugin of any kind may implement besides, to learn what became of its advice. Must not block."""

    def pre_request(self, request: Request, chosen: Mapping[str, int]) -> None:
        """The decision: profile name -> slot of its first endpoint; the primary profile comes first."""

    def response_complete(self, request: Request, slot: int, how: RequestOutcome) -> None:
        """The request is over; called exactly once for every `picked`."""

    def endpoint_removed(self, slot: int) -> None:
        """The endpoint at this slot left the pool; the slot may be given to another."""


class LoadEstimate(msgspec.Struct, frozen=True, gc=False):
    """What a request weighs while it is in flight."""

    prompt_tokens: float
    output_tokens: float = 0.0


class LoadEstimator(Protocol):
    """A producer that also says what a request weighs in the in-flight ledger."""

    def estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate:
        """The weight if the request goes to the endpoint at `position`."""


class ProfileHandler(Plugin):
    """Says which profiles run, and whose choice is the destination."""

    def validate_profiles(self, available: Sequence[str]) -> Sequence[str]:
        """What is wrong with these profiles for this handler; asked once, at start."""
        return ()

    def pick_profiles(self, request: Request, available: Sequence[str], done: Mapping[str, bool]) -> Sequence[str]:
        """Names of the profiles to run next; none ends the decision. `done`: profile -> it found an endpoint."""
        raise NotImplementedError

    def primary_profile(self, request: Request, done: Mapping[str, bool]) -> str:
        """The profile whose endpoints become the destination."""
        raise NotImplementedError

    def request_headers(self, request: Request, chosen: Mapping[str, Endpoint]) -> Mapping[str, str]:
        """Request headers to set for the model server besides the destination."""
        return {}


class ParsedRequest(msgspec.Struct):
    """What a parser read from a request body. `model` None: the body has a parser-known shape but no model."""

    model: str | None = None
    text: bytes = b""
    token_ids: bytes = b""
    cache_salt: str = ""
    max_output_tokens: int | None = None
    streaming: bool = False


class TokenUsage(msgspec.Struct, frozen=True):
    """Token counts of one answer; None where the model server did not say."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None


class UsageReader(Protocol):
    """Reads token usage from a response body that arrives in pieces."""

    def feed(self, data: bytes) -> None:
        """The next piece, cut anywhere."""

    def usage(self) -> TokenUsage:
        """What is known so far."""


class Parser(Plugin):
    """Understands one API. Chosen by the longest of `paths` that the request path ends with; no paths: the fallback."""

    paths: ClassVar[tuple[str, ...]] = ()

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        """The request, or `BadRequest`."""
        raise NotImplementedError

    def create_usage_reader(self, path: str, streaming: bool) -> UsageReader | None:
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
    "LoadEstimate",
    "LoadEstimator",
    "DataSource",
    "Discovery",
    "RequestOutcome",
    "Extractor",
    "Filter",
    "DataKey",
    "NoEndpoints",
    "RequestHooks",
    "Overloaded",
    "ParsedRequest",
    "Parser",
    "Picker",
    "Plugin",
    "Policy",
    "ProducedData",
    "Producer",
    "ProfileHandler",
    "Scorer",
    "TokenUsage",
    "UsageReader",
]
