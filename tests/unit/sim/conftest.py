"""An engine in virtual time, and a simulated server on the loopback interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import aiohttp
import pytest

from epp.clock import ManualClock, SystemClock
from epp.sim import tokens
from epp.sim.engine import SimEngine, SimEngineConfig
from epp.sim.fleet import SimFleet
from epp.sim.hardware import FAST, Hardware
from epp.sim.request import SimRequest

UNIT = Hardware("unit", token_seconds=0.001, weight_seconds=0.0, pair_seconds=0.0, context_seconds=0.0,
                sequence_seconds=0.0, overhead_seconds=1.0, kv_tokens=0)  # fmt: skip
"""A step takes one second and a millisecond for each token."""


class EngineRig:
    """An engine and its virtual time. Requests are named by one letter."""

    def __init__(self, **options: int | bool) -> None:
        defaults = {"block_size": 4, "num_gpu_blocks": 101, "max_num_seqs": 8, "max_num_batched_tokens": 100}
        self.config = SimEngineConfig(hardware=UNIT, **{**defaults, **options})  # type: ignore[arg-type]
        self.engine = SimEngine(self.config)
        self.clock = ManualClock(start=0.0)

    def add(self, name: str, prompt: str, answer: int, *, lora_name: str = "", cache_salt: str = "") -> SimRequest:
        """Adds a request for `answer` tokens, with one prompt token for each letter of `prompt`."""
        data = b"".join(letter.encode() * tokens.TOKEN_BYTES for letter in prompt)
        request = SimRequest.from_prompt(
            data,
            self.config.block_size,
            request_id=name,
            max_tokens=answer,
            lora_name=lora_name,
            cache_salt=cache_salt,
            seed=7,
        )
        self.engine.add_request(request, self.clock.now())
        return request

    def step(self) -> str:
        """Completes the step in progress; the names of the requests that got a token."""
        due = self.engine.step_ends_at
        assert due is not None, "the engine is idle"
        self.clock.advance(due - self.clock.now())
        return "".join(request.request_id for request in self.engine.complete_step())

    def finish(self) -> None:
        """Runs until the engine is idle."""
        while self.engine.step_ends_at is not None:
            self.step()

    def abort(self, request: SimRequest) -> None:
        self.engine.abort_request(request, self.clock.now())


@pytest.fixture
def new_rig() -> Callable[..., EngineRig]:
    return EngineRig


@pytest.fixture
async def fleet() -> AsyncIterator[SimFleet]:
    """One fast server with an adapter `l1` and 2,048 tokens of context."""
    config = SimEngineConfig(hardware=replace(FAST), max_model_len=2048, max_loras=2)
    async with SimFleet(config, SystemClock(), ports=[0], model="sim-8b", adapters=("l1",)) as fleet:
        yield fleet


@pytest.fixture
async def client(fleet: SimFleet) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{fleet.targets[0]}") as session:
        yield session
