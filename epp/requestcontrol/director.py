"""From a complete request to a route: candidates, producers, profiles, reservation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import msgspec

from epp.api import (
    PROMPT,
    Endpoints,
    LoadEstimate,
    Plugin,
    ProfileHandler,
    Request,
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
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision, SchedulingMetrics
from epp.requestcontrol.request_parser import DEFAULT_FAIRNESS_ID, RequestContext, RequestParser
from epp.scheduling import producers, profile_run
from epp.scheduling.plugin_errors import PluginErrorReporter
from epp.scheduling.plugin_timing import TimingSampler
from epp.scheduling.pool_view import PoolView
from epp.scheduling.profile_run import PluginTimer
from epp.scheduling.result import ProfileRunResult

NO_CANDIDATES = "failed to find endpoint candidates for serving the request"
FILTERED_OUT = "no endpoints available for the given request"


class DecisionRecord(msgspec.Struct, gc=False):
    """One finished decision, kept for `epp explain`.

    `seconds`: from the whole request to the answer, parsing included. `refusal` is empty if a route was found.
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
    """How the director behaves besides the plan.

    `scraped_load`: scrapes replace reservations (completion by scrape). `timeout`: seconds for awaited producers.
    """

    use_subset_hint: bool = True
    emit_scores: bool = False
    producer_timeout: float = 2.0
    use_scraped_load: bool = False


class Director:
    """Decides. Between reading the columns and reserving there is no await: choosing is claiming."""

    def __init__(
        self,
        plan: PickerPlan,
        table: EndpointStore,
        ledger: Ledger,
        completion: Completion,
        recorder: SchedulingMetrics,
        clock: Clock,
        rng: Random,
        settings: DirectorOptions,
        on_decided: Callable[[DecisionRecord], None],
    ) -> None:
        plugins: dict[str, Plugin] = plan.plugins_by_name()
        self._clock = clock
        self._ledger = ledger
        self._metrics = recorder
        self._inflight_dependencies = InflightDependencies(
            clock,
            ledger,
            request_hooks=_plugins_with(plugins, "response_complete"),
            find_slot=table.find_slot,
            untrack=completion.untrack,
            report_hook_error=self._report_hook_error,
        )
        self._pre_request_hooks = _plugins_with(plugins, "pre_request")
        self._load_estimator = next(iter(_plugins_with(plugins, "estimate_load")), None)
        self._plugin_names = {id(plugin): name for name, plugin in plugins.items()}
        self._plan = plan
        self._pool = PoolView(table, ledger, settings.use_scraped_load)
        self._completion = completion
        self._rng = rng
        self._settings = settings
        self._on_decision = on_decided
        self._request_parser = RequestParser(plan.parsers, rng)
        self._report_plugin_error = PluginErrorReporter(clock, recorder)
        self._timing_sampler = TimingSampler(clock, recorder)
        self._has_async_producer = producers.has_async_producer(plan.producers)
        self._profile_names = tuple(plan.profiles)
        self._adds_headers = type(plan.profile_handler[1]).request_headers is not ProfileHandler.request_headers
        for plugin in _plugins_with(plugins, "endpoint_removed"):
            table.on_removed(plugin.endpoint_removed)

    def _report_hook_error(self, observer: RequestHooks) -> None:
        self._report_plugin_error(self._plugin_names.get(id(observer), type(observer).__name__), "observer")

    def route_request(self, head: RequestHeaders, body: bytes) -> RoutingDecision | Awaitable[RoutingDecision]:
        """A route, or an awaitable of it; raises `Reject`."""
        started = self._clock.now()
        try:
            reading = self._request_parser.parse(head, body)
        except Rejection as reject:
            self._record_parse_rejection(head, reject, started)
            raise
        try:
            endpoints = self._find_candidates(head.subset_hint)
            if self._has_async_producer:
                return self._route_after_awaiting(reading, endpoints, started)
            timer = self._timing_sampler.next_timer()
            producers.run_sync_producers(
                self._plan.producers, reading.request, endpoints, self._report_plugin_error, timer
            )
            return self._schedule(reading, endpoints, started, timer)
        except Rejection as reject:
            self._record_rejection(reading, reject, started)
            raise

    async def _route_after_awaiting(
        self, reading: RequestContext, endpoints: Endpoints, started: float
    ) -> RoutingDecision:
        timer = self._timing_sampler.next_timer()
        try:
            await producers.run_producers(
                self._plan.producers,
                reading.request,
                endpoints,
                self._settings.producer_timeout,
                self._report_plugin_error,
                timer,
            )
            return self._schedule(
                reading, _require_candidates(endpoints.with_snapshot(self._pool.snapshot())), started, timer
            )
        except Rejection as reject:
            self._record_rejection(reading, reject, started)
            raise

    def _find_candidates(self, subset: tuple[str, ...] | None) -> Endpoints:
        snapshot = self._pool.snapshot()
        slots = snapshot.live_slots
        if subset is not None and self._settings.use_subset_hint:
            slots = self._pool.slots_in_subset(subset)
        return _require_candidates(Endpoints(snapshot, slots))

    def _schedule(
        self, reading: RequestContext, endpoints: Endpoints, started: float, timer: PluginTimer | None
    ) -> RoutingDecision:
        request = reading.request
        verdicts = reading.results
        found = self._run_profiles(request, endpoints, timer, verdicts)
        primary = self._plan.profile_handler[1].primary_profile(request, found)
        if primary not in verdicts:
            raise InternalError("the profile handler named a primary profile that did not run")
        if len(verdicts) > 1:
            verdicts = {primary: verdicts[primary], **verdicts}
        verdict = verdicts[primary]
        if verdict.first_position < 0:
            raise verdict.build_rejection(FILTERED_OUT)
        first = verdict.endpoints.endpoint_at(verdict.first_position)
        destination = first.target
        if len(verdict.order) > 1:
            destination = ",".join(
                [verdict.endpoints.endpoint_at(position).target for position in verdict.order.tolist()]
            )
        flight = self._reserve(reading, verdict, verdicts)
        seconds = self._clock.now() - started
        self._metrics.record_scheduling_attempt(
            seconds, request.target_model, first.pod or first.name, first.namespace, first.port
        )
        wall = self._clock.wall()
        self._on_decision(DecisionRecord(wall, request.id, request.model, request.path, seconds, verdicts, destination))
        return self._build_decision(reading, flight, destination, verdict, verdicts)

    def _run_profiles(
        self, request: Request, endpoints: Endpoints, timer: PluginTimer | None, verdicts: dict[str, ProfileRunResult]
    ) -> dict[str, bool]:
        """Fills `verdicts`; tells which profiles found an endpoint."""
        handler = self._plan.profile_handler[1]
        found: dict[str, bool] = {}
        while names := handler.pick_profiles(request, self._profile_names, found):
            for name in names:
                verdict = profile_run.run_profile(
                    self._plan.profiles[name], request, endpoints, self._rng, self._report_plugin_error, timer
                )
                verdicts[name] = verdict
                found[name] = verdict.first_position >= 0
        return found

    def _reserve(
        self, reading: RequestContext, verdict: ProfileRunResult, verdicts: Mapping[str, ProfileRunResult]
    ) -> InflightRequest:
        request, slot = reading.request, verdict.endpoints.slots.item(verdict.first_position)
        prompt: TokenizedPrompt | None = request.attributes.get(PROMPT)
        tokens = 0 if prompt is None else prompt.token_count
        charge = self._estimate_load(request, verdict.endpoints, verdict.first_position) or LoadEstimate(float(tokens))
        ticket = self._ledger.reserve(slot, charge.prompt_tokens, charge.output_tokens)
        account = self._metrics.record_routed_request(
            request.model, request.target_model, request.fairness_id, request.priority, len(request.body), tokens
        )
        if self._pre_request_hooks:
            self._notify_pre_request(request, {verdict.profile.name: slot}, verdicts)
        observed = self._completion.should_observe()
        reader = reading.create_usage_reader() if observed else None
        flight = InflightRequest(self._inflight_dependencies, request, ticket, charge.prompt_tokens, reader, account)
        if not observed:
            flight.tracked = True
            self._completion.track(flight)
        return flight

    def _estimate_load(self, request: Request, endpoints: Endpoints, position: int) -> LoadEstimate | None:
        """What the charging producer says, if there is one and it works."""
        if self._load_estimator is None:
            return None
        try:
            charge: LoadEstimate = self._load_estimator.estimate_load(request, endpoints, position)
            return charge
        except Exception:
            self._report_hook_error(self._load_estimator)
            return None

    def _notify_pre_request(
        self, request: Request, slots: dict[str, int], verdicts: Mapping[str, ProfileRunResult]
    ) -> None:
        if len(verdicts) > 1:  # the primary profile's comes first
            slots |= {
                name: v.endpoints.slots.item(v.first_position) for name, v in verdicts.items() if v.first_position >= 0
            }
        for plugin in self._pre_request_hooks:
            try:
                plugin.pre_request(request, slots)
            except Exception:
                self._report_hook_error(plugin)

    def _build_decision(
        self,
        reading: RequestContext,
        flight: InflightRequest,
        destination: str,
        verdict: ProfileRunResult,
        verdicts: Mapping[str, ProfileRunResult],
    ) -> RoutingDecision:
        request = reading.request
        headers: dict[str, str] = {}
        if self._adds_headers:
            chosen = {
                name: v.endpoints.endpoint_at(v.first_position) for name, v in verdicts.items() if v.first_position >= 0
            }
            headers.update(self._plan.profile_handler[1].request_headers(request, chosen))
        if reading.generated_id:
            headers[REQUEST_ID] = request.id
        scores = None
        if self._settings.emit_scores:
            totals = zip(verdict.endpoints, verdict.totals.tolist(), strict=True)
            scores = {endpoint.target: total for endpoint, total in totals}
        request.release_payload()
        return RoutingDecision(destination, flight, not flight.tracked, headers, reading.body, scores)

    def _record_parse_rejection(self, head: RequestHeaders, reject: Rejection, started: float) -> None:
        self._metrics.record_rejection("", "", DEFAULT_FAIRNESS_ID, 0, reject.code)
        self._publish_rejection(head.headers.get(REQUEST_ID, ""), "", head.path, reject, started, {})

    def _record_rejection(self, reading: RequestContext, reject: Rejection, started: float) -> None:
        request = reading.request
        self._metrics.record_scheduling_attempt(self._clock.now() - started, request.target_model, "", "", 0)
        self._metrics.record_rejection(
            request.model, request.target_model, request.fairness_id, request.priority, reject.code
        )
        self._publish_rejection(request.id, request.model, request.path, reject, started, reading.results)

    def _publish_rejection(
        self,
        request_id: str,
        model: str,
        path: str,
        reject: Rejection,
        started: float,
        verdicts: Mapping[str, ProfileRunResult],
    ) -> None:
        seconds = self._clock.now() - started
        refusal = f"{reject.code} - {reject.message}"
        self._on_decision(
            DecisionRecord(self._clock.wall(), request_id, model, path, seconds, verdicts, rejection=refusal)
        )


def _require_candidates(endpoints: Endpoints) -> Endpoints:
    if not len(endpoints.slots):
        raise NoEndpoints(NO_CANDIDATES)
    return endpoints


def _plugins_with(plugins: Mapping[str, Plugin], method: str) -> tuple[Any, ...]:
    return tuple(plugin for plugin in plugins.values() if hasattr(plugin, method))
