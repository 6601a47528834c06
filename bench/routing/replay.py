"""One workload, one arm, in virtual time: arrivals, scrapes and the engines' steps in the order in which they happen.

What is left out: the network (a request is at its server when it is chosen), the picker's own time, failures.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

from bench.routing import arms
from bench.routing.workloads import HARDWARE, MAX_MODEL_LEN, Chat, Workload
from epp.clock import ManualClock
from epp.requestcontrol.interfaces import RoutedRequest
from epp.sim import tokens
from epp.sim.engine import SimEngine, SimEngineConfig
from epp.sim.sequence import SimRequest

SCRAPE_INTERVAL = 0.05
SCRAPE_DELAY = 0.005
"""Seconds from a server's reading of its counters to the picker's table."""


@dataclass(slots=True)
class ActiveChat:
    """A chat under way: everything said so far, and which turn is next."""

    chat: Chat
    history: str = ""
    next_turn: int = 0


@dataclass(slots=True)
class ReplayResult:
    """What one arm gave, in order of completion; times in seconds. `queries` and `hits` are prompt tokens."""

    ttft: list[float] = field(default_factory=list)
    e2e: list[float] = field(default_factory=list)
    tpot: list[float] = field(default_factory=list)
    per_server: list[int] = field(default_factory=list)
    queries: int = 0
    hits: int = 0
    preemptions: int = 0
    seconds: float = 0.0


class Replay:
    """Runs once."""

    def __init__(self, workload: Workload, arm_name: str, config: str, seed: int) -> None:
        self._clock = ManualClock(start=0.0)
        engine = SimEngineConfig(
            hardware=HARDWARE, num_gpu_blocks=workload.kv_blocks, max_model_len=_context_length(workload)
        )
        self._engines = [SimEngine(engine) for _ in range(workload.servers)]
        self._arm = arms.create_policy(arm_name, config, workload.servers, self._clock, Random(seed))
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._ids = count()
        self._open: dict[SimRequest, tuple[ActiveChat, RoutedRequest]] = {}
        self._left = sum(len(chat.turns) for chat in workload.chats)
        self._outcome = ReplayResult(per_server=[0] * workload.servers)
        for chat in workload.chats:
            self._schedule(chat.starts_at + SCRAPE_INTERVAL, partial(self._send_turn, ActiveChat(chat)))
        for server in range(workload.servers):
            self._schedule(SCRAPE_INTERVAL * server / workload.servers, partial(self._scrape, server))

    def run(self) -> ReplayResult:
        """To the last token."""
        while self._left:
            engine = min(self._engines, key=_next_step_at)
            due = _next_step_at(engine)
            if self._agenda[0][0] <= due:
                at, _, act = heapq.heappop(self._agenda)
                self._advance_to(at)
                act()
            else:
                self._advance_to(due)
                for sequence in engine.complete_step():
                    self._on_token(sequence, due)
        outcome = self._outcome
        outcome.queries = sum(engine.stats.prefix_queries for engine in self._engines)
        outcome.hits = sum(engine.stats.prefix_hits for engine in self._engines)
        outcome.preemptions = sum(engine.stats.preemptions for engine in self._engines)
        outcome.seconds = self._clock.now()
        return outcome

    def _schedule(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), act))

    def _advance_to(self, at: float) -> None:
        self._clock.advance(max(0.0, at - self._clock.now()))

    def _send_turn(self, talk: ActiveChat) -> None:
        turn = talk.chat.turns[talk.next_turn]
        talk.history += turn.text
        number = next(self._ids)
        server, flight = self._arm.choose_server(f"r{number}", talk.history, turn.output_tokens)
        engine = self._engines[server]
        sequence = SimRequest.from_prompt(
            tokens.encode_text(talk.history),
            engine.config.block_size,
            id=f"r{number}",
            max_tokens=turn.output_tokens,
            seed=number,
        )
        self._open[sequence] = (talk, flight)
        self._outcome.per_server[server] += 1
        engine.add_request(sequence, self._clock.now())

    def _on_token(self, sequence: SimRequest, now: float) -> None:
        if sequence.output_tokens == 1:
            flight = self._open[sequence][1]
            flight.on_response_headers(200, {"content-type": "text/event-stream"})
            flight.on_response_body(b"")
        if not sequence.finish_reason:
            return
        talk, flight = self._open.pop(sequence)
        flight.finalize("completed")
        self._record_end(sequence, now)
        talk.history += tokens.answer_text(sequence.seed, 0, sequence.output_tokens)
        talk.next_turn += 1
        if talk.next_turn < len(talk.chat.turns):
            self._schedule(now + talk.chat.turns[talk.next_turn].think_seconds, partial(self._send_turn, talk))

    def _record_end(self, sequence: SimRequest, now: float) -> None:
        assert sequence.first_token_at is not None
        self._left -= 1
        outcome = self._outcome
        outcome.ttft.append(sequence.first_token_at - sequence.arrived_at)
        outcome.e2e.append(now - sequence.arrived_at)
        if sequence.output_tokens > 1:
            outcome.tpot.append((now - sequence.first_token_at) / (sequence.output_tokens - 1))

    def _scrape(self, server: int) -> None:
        now = self._clock.now()
        values = arms.scrape_engine(self._engines[server])
        self._schedule(now + SCRAPE_DELAY, partial(self._arm.record_scrape, server, now, values))
        self._schedule(now + SCRAPE_INTERVAL, partial(self._scrape, server))


def _next_step_at(engine: SimEngine) -> float:
    return float("inf") if engine.step_ends_at is None else engine.step_ends_at


def _context_length(workload: Workload) -> int:
    return min(MAX_MODEL_LEN, (workload.kv_blocks - 1) * 16) if workload.kv_blocks else MAX_MODEL_LEN
