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
from bench.routing.workloads import CONTEXT, HARDWARE, Chat, Workload
from epp.clock import ManualClock
from epp.requestcontrol.interfaces import Flight
from epp.sim import tokens
from epp.sim.engine import Engine, EngineConfig
from epp.sim.sequence import Sequence

SCRAPE_EVERY = 0.05
SCRAPE_AGE = 0.005
"""Seconds from a server's reading of its counters to the picker's table."""


@dataclass(slots=True)
class Talk:
    """A chat under way: everything said so far, and which turn is next."""

    chat: Chat
    said: str = ""
    turn: int = 0


@dataclass(slots=True)
class Outcome:
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
        engine = EngineConfig(hardware=HARDWARE, num_gpu_blocks=workload.kv_blocks, max_model_len=_context(workload))
        self._engines = [Engine(engine) for _ in range(workload.servers)]
        self._arm = arms.make(arm_name, config, workload.servers, self._clock, Random(seed))
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._ids = count()
        self._open: dict[Sequence, tuple[Talk, Flight]] = {}
        self._left = sum(len(chat.turns) for chat in workload.chats)
        self._outcome = Outcome(per_server=[0] * workload.servers)
        for chat in workload.chats:
            self._at(chat.at + SCRAPE_EVERY, partial(self._ask, Talk(chat)))
        for server in range(workload.servers):
            self._at(SCRAPE_EVERY * server / workload.servers, partial(self._scrape, server))

    def run(self) -> Outcome:
        """To the last token."""
        while self._left:
            engine = min(self._engines, key=_due)
            due = _due(engine)
            if self._agenda[0][0] <= due:
                at, _, act = heapq.heappop(self._agenda)
                self._until(at)
                act()
            else:
                self._until(due)
                for sequence in engine.advance():
                    self._progressed(sequence, due)
        outcome = self._outcome
        outcome.queries = sum(engine.stats.prefix_queries for engine in self._engines)
        outcome.hits = sum(engine.stats.prefix_hits for engine in self._engines)
        outcome.preemptions = sum(engine.stats.preemptions for engine in self._engines)
        outcome.seconds = self._clock.now()
        return outcome

    def _at(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), act))

    def _until(self, at: float) -> None:
        self._clock.advance(max(0.0, at - self._clock.now()))

    def _ask(self, talk: Talk) -> None:
        turn = talk.chat.turns[talk.turn]
        talk.said += turn.text
        number = next(self._ids)
        server, flight = self._arm.choose(f"r{number}", talk.said, turn.answer)
        engine = self._engines[server]
        sequence = Sequence.of_prompt(
            tokens.encode(talk.said), engine.config.block_size, id=f"r{number}", max_tokens=turn.answer, seed=number
        )
        self._open[sequence] = (talk, flight)
        self._outcome.per_server[server] += 1
        engine.add(sequence, self._clock.now())

    def _progressed(self, sequence: Sequence, now: float) -> None:
        if sequence.generated == 1:
            flight = self._open[sequence][1]
            flight.response_started(200, {"content-type": "text/event-stream"})
            flight.response_data(b"")
        if not sequence.finish:
            return
        talk, flight = self._open.pop(sequence)
        flight.ended("completed")
        self._note(sequence, now)
        talk.said += tokens.answer(sequence.seed, 0, sequence.generated)
        talk.turn += 1
        if talk.turn < len(talk.chat.turns):
            self._at(now + talk.chat.turns[talk.turn].pause, partial(self._ask, talk))

    def _note(self, sequence: Sequence, now: float) -> None:
        assert sequence.first_token_at is not None
        self._left -= 1
        outcome = self._outcome
        outcome.ttft.append(sequence.first_token_at - sequence.arrived_at)
        outcome.e2e.append(now - sequence.arrived_at)
        if sequence.generated > 1:
            outcome.tpot.append((now - sequence.first_token_at) / (sequence.generated - 1))

    def _scrape(self, server: int) -> None:
        now = self._clock.now()
        values = arms.metrics_of(self._engines[server])
        self._at(now + SCRAPE_AGE, partial(self._arm.scraped, server, now, values))
        self._at(now + SCRAPE_EVERY, partial(self._scrape, server))


def _due(engine: Engine) -> float:
    return float("inf") if engine.due is None else engine.due


def _context(workload: Workload) -> int:
    return min(CONTEXT, (workload.kv_blocks - 1) * 16) if workload.kv_blocks else CONTEXT
