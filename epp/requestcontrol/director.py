"""Routes one request: parser, candidates, data producers, profiles, reservation, and the answer to the gateway.

The stages are those of llm-d's `requestcontrol.Director.HandleRequest`, in its order; objectives, admission and flow
control do not exist here, and instead of llm-d's per-request clones of endpoints all stages share one snapshot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import TypeVar

import msgspec

from epp.api import (
    PROMPT,
    Endpoints,
    LoadEstimate,
    LoadEstimator,
    Plugin,
    Request,
    RequestHeaderProvider,
    RequestHooks,
    TokenizedPrompt,
)
from epp.clock import Clock
from epp.config.plan import PickerPlan
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger
from epp.errors import InternalError, NoEndpoints, Rejection
from epp.headers import REQUEST_ID
from epp.requestcontrol.completion import Completion
from epp.requestcontrol.inflight_request import InflightDependencies, InflightRequest
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from epp.requestcontrol.request_metrics import SchedulingMetrics
from epp.requestcontrol.request_parser import DEFAULT_FAIRNESS_ID, RequestContext, RequestParser
from epp.scheduling.plugin_metrics import PluginErrorReporter, PluginTimer, TimingSampler
from epp.scheduling.pool_view import PoolView
from epp.scheduling.producers import has_async_producer, run_producers, run_sync_producers
from epp.scheduling.profile_run import run_profile
from epp.scheduling.result import ProfileRunResult

T = TypeVar("T")

# llm-d's messages, word for word: clients and tests of gateways match on them.
NO_CANDIDATES = "failed to find endpoint candidates for serving the request"
FILTERED_OUT = "no endpoints available for the given request"


class DecisionRecord(msgspec.Struct, gc=False):
    """One routing decision as `/debug/decisions` keeps it.

    `wall_time` is when it was made, `seconds` how long it took from the whole request to the answer, parsing included.
    `rejection` is empty if the request was routed, otherwise `code - message`; `destination` the other way round.
    """

    wall_time: float
    request_id: str
    model: str
    path: str
    seconds: float
    results: Mapping[str, ProfileRunResult]
    destination: str = ""
    rejection: str = ""


class DirectorOptions(msgspec.Struct, frozen=True):
    """Settings of the director besides the plan.

    `producer_timeout`: seconds for all producers that do I/O. `use_scraped_load`: scraped load counts as in flight, for
    `--completion scrape`.
    """

    use_subset_hint: bool = True
    emit_scores: bool = False
    producer_timeout: float = 2.0
    use_scraped_load: bool = False


class Director:
    """The `Router` of the protocol side.

    The pool is read, the endpoint chosen and the request reserved there without an await in between, so concurrent
    requests see each other's reservations. Producers that do I/O run before that, on an earlier snapshot.
    """

    def __init__(
        self,
        plan: PickerPlan,
        store: EndpointStore,
        ledger: Ledger,
        completion: Completion,
        metrics: SchedulingMetrics,
        clock: Clock,
        rng: Random,
        options: DirectorOptions,
        on_decision: Callable[[DecisionRecord], None],
    ) -> None:
        plugins = plan.plugins_by_name()
        self._plan = plan
        self._profile_names = tuple(plan.profiles)
        _, self._profile_handler = plan.profile_handler
        self._has_async_producer = has_async_producer(plan.producers)
        self._ledger = ledger
        self._completion = completion
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._options = options
        self._on_decision = on_decision
        self._pool = PoolView(store, ledger, options.use_scraped_load)
        self._parser = RequestParser(plan.parsers, rng)
        self._plugin_names = {id(plugin): name for name, plugin in plugins.items()}
        self._report_plugin_error = PluginErrorReporter(clock, metrics)
        self._timing_sampler = TimingSampler(clock, metrics)
        hooks = _plugins_of_type(plugins, RequestHooks)
        self._pre_request_hooks = _plugins_overriding(hooks, RequestHooks.pre_request)
        self._header_providers = _plugins_of_type(plugins, RequestHeaderProvider)
        self._load_estimator = next(iter(_plugins_of_type(plugins, LoadEstimator)), None)
        self._inflight_dependencies = InflightDependencies(
            clock,
            ledger,
            response_hooks=_plugins_overriding(hooks, RequestHooks.response_complete),
            find_slot=store.find_slot,
            untrack=completion.untrack,
            report_hook_error=self._report_hook_error,
        )
        for plugin in _plugins_overriding(hooks, RequestHooks.endpoint_removed):
            store.on_removed(partial(self._notify_endpoint_removed, plugin))

    def route_request(self, headers: RequestHeaders, body: bytes) -> RoutingDecision | Awaitable[RoutingDecision]:
        """The decision, or an awaitable of it if some producer does I/O; both raise `Rejection`."""
        started_at = self._clock.now()
        try:
            context = self._parser.parse(headers, body, started_at)
        except Rejection as rejection:
            self._record_parse_rejection(headers, rejection, started_at)
            raise
        try:
            candidates = self._find_candidates(headers.subset_hint)
            if self._has_async_producer:
                return self._route_after_awaiting(context, candidates)
            timer = self._timing_sampler.next_timer()
            run_sync_producers(self._plan.producers, context.request, candidates, self._report_plugin_error, timer)
            return self._schedule(context, candidates, timer)
        except Rejection as rejection:
            self._record_rejection(context, rejection)
            raise

    async def _route_after_awaiting(self, context: RequestContext, candidates: Endpoints) -> RoutingDecision:
        timer = self._timing_sampler.next_timer()
        try:
            await run_producers(
                self._plan.producers,
                context.request,
                candidates,
                self._options.producer_timeout,
                self._report_plugin_error,
                timer,
            )
            # Endpoints may have left and load may have changed meanwhile: decide on the pool as it is now.
            candidates = _require_candidates(candidates.with_snapshot(self._pool.snapshot()))
            return self._schedule(context, candidates, timer)
        except Rejection as rejection:
            self._record_rejection(context, rejection)
            raise

    def _find_candidates(self, subset_hint: tuple[str, ...] | None) -> Endpoints:
        """All live endpoints, or those of GAIE's subset hint; an empty hint allows none.

        As llm-d's `DatastoreEndpointCandidates.Locate`, which however compares addresses only and ignores ports.
        """
        snapshot = self._pool.snapshot()
        slots = snapshot.live_slots
        if subset_hint is not None and self._options.use_subset_hint:
            slots = self._pool.slots_in_subset(subset_hint)
        return _require_candidates(Endpoints(snapshot, slots))

    def _schedule(self, context: RequestContext, candidates: Endpoints, timer: PluginTimer | None) -> RoutingDecision:
        # As llm-d's `Scheduler.Schedule`: rounds of profiles (ProfileHandler.Pick), then the primary profile
        # (ProcessResults). There is no await until the reservation, so the next request sees it.
        request = context.request
        found = self._run_profiles(context, candidates, timer)
        primary = self._profile_handler.primary_profile(request, found)
        results = context.results
        if primary not in results:
            raise InternalError(f"the profile handler named {primary!r} as primary profile, which did not run")
        if len(results) > 1:
            results = context.results = {primary: results[primary], **results}
        result = results[primary]
        if result.first_position < 0:
            raise result.build_rejection(FILTERED_OUT)
        first = result.endpoints.endpoint_at(result.first_position)
        destination = first.target
        if len(result.order) > 1:
            destination = ",".join([result.endpoints.endpoint_at(i).target for i in result.order.tolist()])
        inflight = self._reserve(context, result)
        seconds = self._clock.now() - context.started_at
        self._metrics.record_scheduling_attempt(
            seconds, request.target_model, first.pod or first.name, first.namespace, first.port
        )
        wall_time = self._clock.wall()
        self._on_decision(
            DecisionRecord(wall_time, request.id, request.model, request.path, seconds, results, destination)
        )
        return self._build_decision(context, inflight, destination, result)

    def _run_profiles(
        self, context: RequestContext, candidates: Endpoints, timer: PluginTimer | None
    ) -> dict[str, bool]:
        """Runs the profiles that the handler picks, in rounds, until it picks none; profile -> it found an endpoint."""
        request, results, handler = context.request, context.results, self._profile_handler
        found: dict[str, bool] = {}
        while names := handler.pick_profiles(request, self._profile_names, found):
            for name in names:
                profile = self._plan.profiles[name]
                result = run_profile(profile, request, candidates, self._rng, self._report_plugin_error, timer)
                results[name] = result
                found[name] = result.first_position >= 0
        return found

    def _reserve(self, context: RequestContext, result: ProfileRunResult) -> InflightRequest:
        """Counts the request at the chosen endpoint from now on."""
        request, slot = context.request, result.endpoints.slots.item(result.first_position)
        prompt: TokenizedPrompt | None = request.attributes.get(PROMPT)
        tokens = 0 if prompt is None else prompt.token_count
        load = self._estimate_load(request, result.endpoints, result.first_position) or LoadEstimate(float(tokens))
        reservation = self._ledger.reserve(slot, load.prompt_tokens, load.output_tokens)
        metrics = self._metrics.record_routed_request(
            request.model, request.target_model, request.fairness_id, request.priority, len(request.body), tokens
        )
        if self._pre_request_hooks:
            self._notify_pre_request(context, {result.profile.name: slot})
        is_observed = self._completion.should_observe()
        usage_reader = context.create_usage_reader() if is_observed else None
        inflight = InflightRequest(
            self._inflight_dependencies, request, reservation, load.prompt_tokens, usage_reader, metrics
        )
        if not is_observed:
            inflight.tracked = True
            self._completion.track(inflight)
        return inflight

    def _estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate | None:
        """What the first load estimator of the plan says; None if there is none or it fails."""
        if self._load_estimator is None:
            return None
        try:
            return self._load_estimator.estimate_load(request, endpoints, position)
        except Exception:
            self._report_hook_error(self._load_estimator)
            return None

    def _notify_pre_request(self, context: RequestContext, slots: dict[str, int]) -> None:
        """`slots` holds the primary profile's slot, which stays first; the other profiles' are added."""
        request, results = context.request, context.results
        if len(results) > 1:
            slots |= {
                name: result.endpoints.slots.item(result.first_position)
                for name, result in results.items()
                if result.first_position >= 0
            }
        for plugin in self._pre_request_hooks:
            try:
                plugin.pre_request(request, slots)
            except Exception:
                self._report_hook_error(plugin)

    def _build_decision(
        self, context: RequestContext, inflight: InflightRequest, destination: str, result: ProfileRunResult
    ) -> RoutingDecision:
        request = context.request
        headers: dict[str, str] = {}
        if self._header_providers:
            chosen = {
                name: each.endpoints.endpoint_at(each.first_position)
                for name, each in context.results.items()
                if each.first_position >= 0
            }
            for plugin in self._header_providers:
                try:
                    headers.update(plugin.request_headers(request, chosen))
                except Exception:
                    self._report_hook_error(plugin)
        if context.generated_id:
            headers[REQUEST_ID] = request.id
        scores = None
        if self._options.emit_scores:
            totals = zip(result.endpoints, result.totals.tolist(), strict=True)
            scores = {endpoint.target: total for endpoint, total in totals}
        request.release_payload()  # a request in flight for minutes must not keep megabytes of body and prompt
        return RoutingDecision(destination, inflight, not inflight.tracked, headers, context.rewritten_body, scores)

    def _record_parse_rejection(self, headers: RequestHeaders, rejection: Rejection, started_at: float) -> None:
        self._metrics.record_rejection("", "", DEFAULT_FAIRNESS_ID, 0, rejection.code)
        request_id = headers.headers.get(REQUEST_ID, "")
        self._publish_rejection(request_id, "", headers.path, rejection, self._clock.now() - started_at, {})

    def _record_rejection(self, context: RequestContext, rejection: Rejection) -> None:
        request = context.request
        seconds = self._clock.now() - context.started_at
        self._metrics.record_scheduling_attempt(seconds, request.target_model, "", "", 0)
        self._metrics.record_rejection(
            request.model, request.target_model, request.fairness_id, request.priority, rejection.code
        )
        self._publish_rejection(request.id, request.model, request.path, rejection, seconds, context.results)

    def _publish_rejection(
        self,
        request_id: str,
        model: str,
        path: str,
        rejection: Rejection,
        seconds: float,
        results: Mapping[str, ProfileRunResult],
    ) -> None:
        text = f"{rejection.code} - {rejection.message}"
        self._on_decision(DecisionRecord(self._clock.wall(), request_id, model, path, seconds, results, rejection=text))

    def _notify_endpoint_removed(self, plugin: RequestHooks, slot: int) -> None:
        try:
            plugin.endpoint_removed(slot)
        except Exception:
            self._report_hook_error(plugin)

    def _report_hook_error(self, plugin: object) -> None:
        self._report_plugin_error(self._plugin_names.get(id(plugin), type(plugin).__name__), "observer")


def _require_candidates(endpoints: Endpoints) -> Endpoints:
    if not len(endpoints.slots):
        raise NoEndpoints(NO_CANDIDATES)
    return endpoints


def _plugins_of_type(plugins: Mapping[str, Plugin], interface: type[T]) -> tuple[T, ...]:
    return tuple(plugin for plugin in plugins.values() if isinstance(plugin, interface))


def _plugins_overriding(plugins: tuple[RequestHooks, ...], hook: Callable[..., None]) -> tuple[RequestHooks, ...]:
    """The plugins that override this hook; calling the default of the others would cost time at every request."""
    return tuple(plugin for plugin in plugins if getattr(type(plugin), hook.__name__) is not hook)
