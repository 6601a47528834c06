"""The kinds of plugin, one base class each, and the contract of each kind in its docstring.

A plugin is a class; its annotated fields are its parameters (camelCase in YAML), its docstring is its entry in
docs/plugins.md, an entry point in the group `epp.plugins` registers it:

    class QueueScorer(Scorer, type="queue-scorer"):
        \"\"\"Prefer endpoints with a short waiting queue.\"\"\"

        consumes = (WAITING_REQUESTS,)

        def score(self, request: Request, endpoints: Endpoints) -> Scores:
            return prefer_low(endpoints[WAITING_REQUESTS])

State that is no parameter is set in `__post_init__`; a ValueError raised there is a configuration error with the path
of the plugin. A plugin may inherit several kinds and any interface of `epp.api.hooks`.

Common to all kinds, unless the kind says otherwise:

- Life cycle: one instance for each entry of `plugins[]`, created when the configuration is loaded, kept until the
  process ends. `epp check` creates plugins too, so `__post_init__` starts no I/O and no task.
- Concurrency: called on the event loop's thread, one call at a time. Calls must not wait for I/O, and their time is
  part of every request's latency.
- Idempotence: filters, scorers and pickers may be called any number of times for one request, also for requests that
  are rejected afterwards. They leave no trace of the call: state changes belong into `RequestHooks.pre_request`.
- Inputs: `request`, `endpoints` and every array read from them are read-only.
- Failure: a plugin that raises or returns something invalid is counted in `epp_plugin_faults_total{plugin, kind}` and
  logged; what happens to the request is part of the kind's contract.

`epp.testing` has a check of the contract for each kind.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

import msgspec

from epp.api.columns import Column, RequestAttribute
from epp.api.endpoints import Endpoints
from epp.api.request import Request
from epp.api.types import Mask, Positions, Scores, Values
from epp.errors import BadRequest, NoEndpoints, Overloaded, Rejection

DataKey = Column | RequestAttribute
"""What producers produce and other plugins consume."""


class _PluginMeta(msgspec.StructMeta):
    """Adds the keyword of `class X(Scorer, type="x")` and makes unknown parameters an error by default."""

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], type: str = "", **options: Any
    ) -> Any:
        if "__init__" in namespace:
            raise TypeError(f"class {name} defines __init__, but the loader sets its parameters: use __post_init__")
        options.setdefault("forbid_unknown_fields", True)
        cls = super().__new__(mcls, name, bases, namespace, **options)
        if type:
            cls.type = type  # type: ignore[attr-defined]
        return cls


# dict: state besides the parameters. eq: plugins are keys of caches, by identity. rename: names as in llm-d's JSON.
class Plugin(msgspec.Struct, metaclass=_PluginMeta, kw_only=True, dict=True, eq=False, rename="camel"):
    """Base of all kinds; not a kind itself.

    `type` is the name in the configuration. `consumes` lists the columns and request attributes that the plugin reads,
    `produces` those it writes (llm-d: Consumes, Produces). Both are class attributes; a plugin in which parameters
    decide assigns `self.consumes = (…)` in `__post_init__`. When the configuration is loaded, each consumed key must
    have a producer; default producers are added, and producers are ordered by these lists.

    `experimental` plugins load only with `--allow-experimental-plugins` (llm-d's stability level Alpha).
    `ignore_unknown_parameters`: unknown parameters are a warning instead of an error; for types whose llm-d counterpart
    ignores them, because configurations in use rely on it.
    """

    type: ClassVar[str] = ""
    experimental: ClassVar[bool] = False
    ignore_unknown_parameters: ClassVar[bool] = False

    if TYPE_CHECKING:  # assignable on instances, and yet no parameters
        consumes: tuple[DataKey, ...] = ()
        produces: tuple[DataKey, ...] = ()
    else:
        consumes = ()
        produces = ()


class Filter(Plugin):
    """Removes endpoints that must not serve the request.

    Ordering: the filters of a profile run in the order of the profile, each on what the one before left; none runs once
    nothing is left.
    Result: when a filter leaves nothing, its profile finds no endpoint; if that is the primary profile, the
    request ends with `rejection`.
    Failure: a filter that raises or returns anything but bool[n] ends its profile with 503, since an endpoint that must
    not be chosen might be let through.
    """

    rejection: ClassVar[type[Rejection]] = Overloaded

    @abstractmethod
    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        """bool[n], true keeps the endpoint; for each endpoint independent of its position."""
        raise NotImplementedError


class Scorer(Plugin):
    """Rates endpoints for a request.

    Ordering: scorers run after all filters; their order has no effect on the result. The total of an endpoint is the
    sum of score times weight.
    Failure: scores of a scorer that raises or returns another shape count as 0.5 for all endpoints; NaN counts as 0.5,
    values outside [0, 1] are clipped.

    `request_independent`: the scores follow from scraped columns alone, whatever the request. They are then computed
    once a scrape for the whole pool instead of once a request; `request` must not be read.
    """

    request_independent: ClassVar[bool] = False

    @abstractmethod
    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        """float32[n] in [0, 1], more is better, NaN where the scorer has no value.

        One endpoint's missing value must not change whether the others have a score.
        """
        raise NotImplementedError


class Picker(Plugin):
    """Chooses among the scored endpoints.

    Ordering: runs last in its profile, with at least one endpoint.
    Failure: if it raises, or returns no position, one twice, one out of range or more than `max_num_of_endpoints`, the
    endpoint with the highest total is taken.
    """

    max_num_of_endpoints: Annotated[int, msgspec.Meta(ge=1)] = 1

    @abstractmethod
    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        """Positions, best first: as many as there are endpoints, at most `max_num_of_endpoints`.

        `totals` is float32[n], finite and read-only. All randomness comes from `rng`, so that a decision can be
        replayed.
        """
        raise NotImplementedError


ProducedData = Mapping[DataKey, Any]
"""Columns as float32[n]; request attributes as their own type."""


class Producer(Plugin):
    """Computes columns and request attributes that other plugins consume.

    Ordering: producers run once a request, before all profiles, each after those whose outputs it consumes.
    Failure: if it raises, its columns are NaN and its attributes None; a column of another shape is dropped. The other
    producers run all the same.
    """

    @abstractmethod
    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        """The keys of `produces` for these candidates; one that is left out is unknown.

        A value that only this plugin reads, in `pre_request` for one, may be put into `request.attributes` under a
        `RequestAttribute` of its own.
        """
        raise NotImplementedError


class AsyncProducer(Plugin):
    """A producer that waits for I/O.

    Ordering: as `Producer`; asynchronous neighbours that do not consume each other's outputs run at once.
    Concurrency: calls for different requests overlap.
    Failure: all of them share one deadline (`--decision-timeout`); a call that is late is cancelled. Late or raising,
    its outputs are unknown. Endpoints that leave the pool meanwhile are removed from the candidates afterwards.
    """

    @abstractmethod
    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        """The keys of `produces` for these candidates; one that is left out is unknown. Must let cancellation pass."""
        raise NotImplementedError


class ProfileHandler(Plugin):
    """Decides which scheduling profiles run, and which one's choice is the destination. There is exactly one.

    Ordering: `validate_profiles` once at start; for each request `pick_profiles` until it returns nothing, then
    `primary_profile`.
    Failure: an exception, or a primary profile that did not run, ends the request with 500. A profile that found no
    endpoint is no failure, unless it is the primary one.
    """

    def validate_profiles(self, available: Sequence[str]) -> Sequence[str]:
        """Problems of these profiles for this handler; each completes the sentence "<name of the handler> …"."""
        return ()

    @abstractmethod
    def pick_profiles(self, request: Request, available: Sequence[str], results: Mapping[str, bool]) -> Sequence[str]:
        """Names of the profiles to run next, none to finish (llm-d: Pick).

        `results` has an entry for each profile that ran so far: whether it found an endpoint. A handler that never
        returns an empty sequence blocks the event loop, and with it every request.
        """
        raise NotImplementedError

    @abstractmethod
    def primary_profile(self, request: Request, results: Mapping[str, bool]) -> str:
        """The profile whose endpoints become the destination (llm-d: ProcessResults)."""
        raise NotImplementedError


class ParsedRequest(msgspec.Struct):
    """What a parser read from a request body.

    `model` None: the request names no model. `text` is the prompt as UTF-8, `token_ids` the prompt as little-endian
    u32; both empty where there is no prompt.
    """

    model: str | None = None
    text: bytes = b""
    token_ids: bytes = b""
    cache_salt: str = ""
    max_output_tokens: int | None = None
    streaming: bool = False


class TokenUsage(msgspec.Struct, frozen=True):
    """Token counts of one response; None where the model server reported none."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None


class UsageReader(Protocol):
    """Reads token usage from one response body. Must not raise, whatever the body: responses are not validated."""

    def feed(self, data: bytes) -> None:
        """The next chunk of the body, cut anywhere, also within a character or an event."""

    def usage(self) -> TokenUsage:
        """The counts read so far. Called once, when the response has ended in any way."""


class Parser(Plugin):
    """Reads requests of one API.

    Selection: the parser with the longest entry of `paths` that the request path (without its query) ends with; of two
    with the same entry, the one listed first. A parser without paths takes the rest and ends the list, as in llm-d.
    Failure: `BadRequest` ends the request with 400, any other exception with 500.
    """

    paths: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        """The request; raises `BadRequest`, with a message for the client, if the body is not one of this API.

        `headers` have lower-case names. The body is forwarded to the model server as it came. Called once a request.
        """
        raise NotImplementedError

    def create_usage_reader(self, path: str, streaming: bool) -> UsageReader | None:
        """A reader for the response to a request of this path; None if its responses report no usage."""
        return None


class SchedulerProfile:
    """A scheduling profile: filters in order, weighted scorers, one picker; each with its name in the configuration."""

    __slots__ = ("filters", "name", "picker", "scorers")

    def __init__(
        self,
        name: str,
        *,
        filters: Sequence[tuple[str, Filter]] = (),
        scorers: Sequence[tuple[str, float, Scorer]] = (),
        picker: tuple[str, Picker],
    ) -> None:
        self.name = name
        self.filters = tuple(filters)
        self.scorers = tuple(scorers)
        self.picker = picker

    def __repr__(self) -> str:
        return f"SchedulerProfile({self.name!r})"


__all__ = [
    "AsyncProducer",
    "BadRequest",
    "DataKey",
    "Filter",
    "NoEndpoints",
    "Overloaded",
    "ParsedRequest",
    "Parser",
    "Picker",
    "Plugin",
    "ProducedData",
    "Producer",
    "ProfileHandler",
    "Rejection",
    "SchedulerProfile",
    "Scorer",
    "TokenUsage",
    "UsageReader",
]
