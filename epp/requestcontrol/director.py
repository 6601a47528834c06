"""From a complete request to a route: candidates, producers, profiles, reservation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import msgspec

from epp.api import (
    PROMPT,
    Charge,
    Endpoints,
    Observer,
    Plugin,
    ProfileHandler,
    Prompt,
    Request,
)
from epp.clock import Clock
from epp.config.plan import Plan
from epp.datastore.endpoint_store import Table
from epp.datastore.ledger import Ledger
from epp.errors import Internal, NoEndpoints, Reject
from epp.requestcontrol.completion import Completion
from epp.requestcontrol.inflight_request import InFlight
from epp.requestcontrol.interfaces import REQUEST_ID, Head, Recorder, Route
from epp.requestcontrol.request_parser import DEFAULT_FLOW, Intake, Reading
from epp.scheduling import producers, profile_run
from epp.scheduling.plugin_errors import Faults
from epp.scheduling.plugin_timing import Sampler
from epp.scheduling.pool_view import Pool
from epp.scheduling.profile_run import Timer
from epp.scheduling.result import Verdict

NO_CANDIDATES = "failed to find endpoint candidates for serving the request"
FILTERED_OUT = "no endpoints available for the given request"


class Decided(msgspec.Struct, gc=False):
    """One finished decision, kept for `epp explain`.

    `seconds`: from the whole request to the answer, parsing included. `refusal` is empty if a route was found.
    """

    wall: float
    request_id: str
    model: str
    path: str
    seconds: float
    verdicts: Mapping[str, Verdict]
    destination: str = ""
    refusal: str = ""


class Settings(msgspec.Struct, frozen=True):
    """How the director behaves besides the plan.

    `scraped_load`: scrapes replace reservations (completion by scrape). `timeout`: seconds for awaited producers.
    """

    use_subset: bool = True
    emit_scores: bool = False
    timeout: float = 2.0
    scraped_load: bool = False


class Director:
    """Decides. Between reading the columns and reserving there is no await: choosing is claiming."""

    def __init__(
        self,
        plan: Plan,
        table: Table,
        ledger: Ledger,
        completion: Completion,
        recorder: Recorder,
        clock: Clock,
        rng: Random,
        settings: Settings,
        on_decided: Callable[[Decided], None],
    ) -> None:
        self.clock = clock
        self.ledger = ledger
        self.recorder = recorder
        self.slot_of_target: Callable[[str], int | None] = table.slot_of_target
        self.on_done: Callable[[InFlight], None] = completion.done
        plugins: dict[str, Plugin] = plan.plugins()
        self.observers: tuple[Observer, ...] = _having(plugins, "ended")
        self._told_of_picks = _having(plugins, "picked")
        self._charger = next(iter(_having(plugins, "charge")), None)
        self._names = {id(plugin): name for name, plugin in plugins.items()}
        self._plan = plan
        self._pool = Pool(table, ledger, settings.scraped_load)
        self._completion = completion
        self._rng = rng
        self._settings = settings
        self._on_decided = on_decided
        self._intake = Intake(plan.parsers, rng)
        self._faults = Faults(clock, recorder)
        self._timers = Sampler(clock, recorder)
        self._awaits = producers.needs_await(plan.producers)
        self._profile_names = tuple(plan.profiles)
        self._adds_headers = type(plan.handler[1]).headers is not ProfileHandler.headers
        for plugin in _having(plugins, "forgotten"):
            table.on_removed(plugin.forgotten)

    def observer_failed(self, observer: Observer) -> None:
        self._faults(self._names.get(id(observer), type(observer).__name__), "observer")

    def decide(self, head: Head, body: bytes) -> Route | Awaitable[Route]:
        """A route, or an awaitable of it; raises `Reject`."""
        started = self.clock.now()
        try:
            reading = self._intake.read(head, body)
        except Reject as reject:
            self._unreadable(head, reject, started)
            raise
        try:
            endpoints = self._candidates(head.subset)
            if self._awaits:
                return self._decide_later(reading, endpoints, started)
            timer = self._timers.next()
            producers.run_now(self._plan.producers, reading.request, endpoints, self._faults, timer)
            return self._route(reading, endpoints, started, timer)
        except Reject as reject:
            self._refused(reading, reject, started)
            raise

    async def _decide_later(self, reading: Reading, endpoints: Endpoints, started: float) -> Route:
        timer = self._timers.next()
        try:
            await producers.run(
                self._plan.producers, reading.request, endpoints, self._settings.timeout, self._faults, timer
            )
            return self._route(reading, _some(endpoints.rebased(self._pool.snapshot())), started, timer)
        except Reject as reject:
            self._refused(reading, reject, started)
            raise

    def _candidates(self, subset: tuple[str, ...] | None) -> Endpoints:
        snapshot = self._pool.snapshot()
        slots = snapshot.live
        if subset is not None and self._settings.use_subset:
            slots = self._pool.hinted(subset)
        return _some(Endpoints(snapshot, slots))

    def _route(self, reading: Reading, endpoints: Endpoints, started: float, timer: Timer | None) -> Route:
        request = reading.request
        verdicts = reading.verdicts
        found = self._run_profiles(request, endpoints, timer, verdicts)
        primary = self._plan.handler[1].primary(request, found)
        if primary not in verdicts:
            raise Internal("the profile handler named a primary profile that did not run")
        if len(verdicts) > 1:
            verdicts = {primary: verdicts[primary], **verdicts}
        verdict = verdicts[primary]
        if verdict.first < 0:
            raise verdict.rejection(FILTERED_OUT)
        first = verdict.endpoints.at(verdict.first)
        destination = first.target
        if len(verdict.order) > 1:
            destination = ",".join([verdict.endpoints.at(position).target for position in verdict.order.tolist()])
        flight = self._reserve(reading, verdict, verdicts)
        seconds = self.clock.now() - started
        self.recorder.scheduled(seconds, request.target_model, first.pod or first.name, first.namespace, first.port)
        wall = self.clock.wall()
        self._on_decided(Decided(wall, request.id, request.model, request.path, seconds, verdicts, destination))
        return self._answer(reading, flight, destination, verdict, verdicts)

    def _run_profiles(
        self, request: Request, endpoints: Endpoints, timer: Timer | None, verdicts: dict[str, Verdict]
    ) -> dict[str, bool]:
        """Fills `verdicts`; tells which profiles found an endpoint."""
        handler = self._plan.handler[1]
        found: dict[str, bool] = {}
        while names := handler.profiles(request, self._profile_names, found):
            for name in names:
                verdict = profile_run.run(self._plan.profiles[name], request, endpoints, self._rng, self._faults, timer)
                verdicts[name] = verdict
                found[name] = verdict.first >= 0
        return found

    def _reserve(self, reading: Reading, verdict: Verdict, verdicts: Mapping[str, Verdict]) -> InFlight:
        request, slot = reading.request, verdict.endpoints.slots.item(verdict.first)
        prompt: Prompt | None = request.facts.get(PROMPT)
        tokens = 0 if prompt is None else prompt.tokens
        charge = self._charge(request, verdict.endpoints, verdict.first) or Charge(float(tokens))
        ticket = self.ledger.reserve(slot, charge.prompt_tokens, charge.output_tokens)
        account = self.recorder.routed(
            request.model, request.target_model, request.fairness_id, request.priority, len(request.body), tokens
        )
        if self._told_of_picks:
            self._tell_of_picks(request, {verdict.profile.name: slot}, verdicts)
        observed = self._completion.observe()
        reader = reading.usage_reader() if observed else None
        flight = InFlight(self, request, ticket, charge.prompt_tokens, reader, account)
        if not observed:
            flight.followed = True
            self._completion.follow(flight)
        return flight

    def _charge(self, request: Request, endpoints: Endpoints, position: int) -> Charge | None:
        """What the charging producer says, if there is one and it works."""
        if self._charger is None:
            return None
        try:
            charge: Charge = self._charger.charge(request, endpoints, position)
            return charge
        except Exception:
            self.observer_failed(self._charger)
            return None

    def _tell_of_picks(self, request: Request, slots: dict[str, int], verdicts: Mapping[str, Verdict]) -> None:
        if len(verdicts) > 1:  # the primary profile's comes first
            slots |= {name: v.endpoints.slots.item(v.first) for name, v in verdicts.items() if v.first >= 0}
        for plugin in self._told_of_picks:
            try:
                plugin.picked(request, slots)
            except Exception:
                self.observer_failed(plugin)

    def _answer(
        self,
        reading: Reading,
        flight: InFlight,
        destination: str,
        verdict: Verdict,
        verdicts: Mapping[str, Verdict],
    ) -> Route:
        request = reading.request
        headers: dict[str, str] = {}
        if self._adds_headers:
            chosen = {name: v.endpoints.at(v.first) for name, v in verdicts.items() if v.first >= 0}
            headers.update(self._plan.handler[1].headers(request, chosen))
        if reading.minted_id:
            headers[REQUEST_ID] = request.id
        scores = None
        if self._settings.emit_scores:
            totals = zip(verdict.endpoints, verdict.totals.tolist(), strict=True)
            scores = {endpoint.target: total for endpoint, total in totals}
        request.lighten()
        return Route(destination, flight, not flight.followed, headers, reading.body, scores)

    def _unreadable(self, head: Head, reject: Reject, started: float) -> None:
        self.recorder.rejected("", "", DEFAULT_FLOW, 0, reject.code)
        self._show_refusal(head.headers.get(REQUEST_ID, ""), "", head.path, reject, started, {})

    def _refused(self, reading: Reading, reject: Reject, started: float) -> None:
        request = reading.request
        self.recorder.scheduled(self.clock.now() - started, request.target_model, "", "", 0)
        self.recorder.rejected(request.model, request.target_model, request.fairness_id, request.priority, reject.code)
        self._show_refusal(request.id, request.model, request.path, reject, started, reading.verdicts)

    def _show_refusal(
        self, request_id: str, model: str, path: str, reject: Reject, started: float, verdicts: Mapping[str, Verdict]
    ) -> None:
        seconds = self.clock.now() - started
        refusal = f"{reject.code} - {reject.message}"
        self._on_decided(Decided(self.clock.wall(), request_id, model, path, seconds, verdicts, refusal=refusal))


def _some(endpoints: Endpoints) -> Endpoints:
    if not len(endpoints.slots):
        raise NoEndpoints(NO_CANDIDATES)
    return endpoints


def _having(plugins: Mapping[str, Plugin], method: str) -> tuple[Any, ...]:
    return tuple(plugin for plugin in plugins.values() if hasattr(plugin, method))
