"""One workload under one policy in virtual time: arrivals, scrapes and engine steps as a discrete-event simulation.

Left out: the network (a request reaches its server when it is routed), the picker's own time, and failures.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

from bench.routing import policies
from bench.routing.workloads import HARDWARE, Chat, Workload
from epp.clock import ManualClock
from epp.requestcontrol.interfaces import RoutedRequest
from epp.sim import tokens
from epp.sim.engine import SimEngine, SimEngineConfig
from epp.sim.request import SimRequest

SCRAPE_INTERVAL = 0.05
SCRAPE_DELAY = 0.005
"""Seconds from the moment a server reads its counters until the picker has stored them."""


@dataclass(slots=True)
class ActiveChat:
    """A chat in progress: its text so far, and the index of the next turn."""

    chat: Chat
    history: str = ""
    next_turn: int = 0


@dataclass(slots=True)
class ReplayResult:
    """Times in seconds, in order of completion. `queries` and `hits` are prompt tokens, as vLLM counts."""

    ttft: list[float] = field(default_factory=list)
    e2e: list[float] = field(default_factory=list)
    tpot: list[float] = field(default_factory=list)
    per_server: list[int] = field(default_factory=list)
    queries: int = 0
    hits: int = 0
    preemptions: int = 0
    seconds: float = 0.0


class Replay:
    """A simulation; `run` may be called once."""

    def __init__(self, workload: Workload, policy_name: str, config: str, seed: int) -> None:
        self._clock = ManualClock(start=0.0)
        engine = SimEngineConfig(hardware=HARDWARE, num_gpu_blocks=workload.kv_blocks)
        self._engines = [SimEngine(engine) for _ in range(workload.servers)]
        self._policy = policies.create_policy(policy_name, config, workload.servers, self._clock, Random(seed))
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence_numbers = count()
        self._ids = count()
        self._in_flight: dict[SimRequest, tuple[ActiveChat, RoutedRequest]] = {}
        self._turns_left = sum(len(chat.turns) for chat in workload.chats)
        self._result = ReplayResult(per_server=[0] * workload.servers)
        for chat in workload.chats:
            self._schedule(chat.starts_at + SCRAPE_INTERVAL, partial(self._send_turn, ActiveChat(chat)))
        for server in range(workload.servers):
            self._schedule(SCRAPE_INTERVAL * server / workload.servers, partial(self._scrape, server))

    def run(self) -> ReplayResult:
        """Runs until the last token of the last turn."""
        while self._turns_left:
            engine = min(self._engines, key=_next_step_at)
            due = _next_step_at(engine)
            if self._events[0][0] <= due:
                at, _, action = heapq.heappop(self._events)
                self._advance_to(at)
                action()
            else:
                self._advance_to(due)
                for sim_request in engine.complete_step():
                    self._on_token(sim_request, due)
        result = self._result
        result.queries = sum(engine.stats.prefix_queries for engine in self._engines)
        result.hits = sum(engine.stats.prefix_hits for engine in self._engines)
        result.preemptions = sum(engine.stats.preemptions for engine in self._engines)
        result.seconds = self._clock.now()
        return result

    def _schedule(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._sequence_numbers), action))

    def _advance_to(self, at: float) -> None:
        self._clock.advance(max(0.0, at - self._clock.now()))

    def _send_turn(self, active: ActiveChat) -> None:
        turn = active.chat.turns[active.next_turn]
        active.history += turn.text
        number = next(self._ids)
        server, routed = self._policy.choose_server(f"r{number}", active.history, turn.output_tokens)
        engine = self._engines[server]
        sim_request = SimRequest.from_prompt(
            tokens.encode_text(active.history),
            engine.config.block_size,
            request_id=f"r{number}",
            max_tokens=turn.output_tokens,
            seed=number,
        )
        self._in_flight[sim_request] = (active, routed)
        self._result.per_server[server] += 1
        engine.add_request(sim_request, self._clock.now())

    def _on_token(self, sim_request: SimRequest, now: float) -> None:
        if sim_request.output_tokens == 1:
            routed = self._in_flight[sim_request][1]
            routed.on_response_headers(200, {"content-type": "text/event-stream"})
            routed.on_response_body(b"")
        if not sim_request.finish_reason:
            return
        active, routed = self._in_flight.pop(sim_request)
        routed.finalize("completed")
        self._record_end(sim_request, now)
        active.history += tokens.answer_text(sim_request.seed, 0, sim_request.output_tokens)
        active.next_turn += 1
        if active.next_turn < len(active.chat.turns):
            self._schedule(now + active.chat.turns[active.next_turn].think_seconds, partial(self._send_turn, active))

    def _record_end(self, sim_request: SimRequest, now: float) -> None:
        assert sim_request.first_token_at is not None
        self._turns_left -= 1
        result = self._result
        result.ttft.append(sim_request.first_token_at - sim_request.arrived_at)
        result.e2e.append(now - sim_request.arrived_at)
        if sim_request.output_tokens > 1:
            result.tpot.append((now - sim_request.first_token_at) / (sim_request.output_tokens - 1))

    def _scrape(self, server: int) -> None:
        now = self._clock.now()
        values = policies.scrape_engine(self._engines[server])
        self._schedule(now + SCRAPE_DELAY, partial(self._policy.record_scrape, server, now, values))
        self._schedule(now + SCRAPE_INTERVAL, partial(self._scrape, server))


def _next_step_at(engine: SimEngine) -> float:
    return float("inf") if engine.step_ends_at is None else engine.step_ends_at
