"""Continuous batching as in vLLM V1, one step after the other, without a clock of its own.

Whoever drives the engine adds sequences at a time, reads `due` (when the step in progress ends) and calls `advance`
when that time has come, be it real or virtual. A step is planned when it starts: running sequences first, in order of
arrival, decodes and prompt chunks alike; then waiting ones, first come first served, as far as the token budget,
`max_num_seqs` and free blocks reach. A running sequence that finds no block preempts the youngest, which loses its
blocks and is computed again from the head of the queue.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from epp.errors import ConfigError, Problem
from epp.sim import tokens
from epp.sim.blocks import BlockPool
from epp.sim.hardware import Hardware
from epp.sim.sequence import Sequence
from epp.sim.stats import Stats

NULL_BLOCKS = 1
"""vLLM keeps one block that nobody gets; `num_gpu_blocks` counts it, usage does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """vLLM's options of the same names. `num_gpu_blocks` 0: what fits on the hardware; `max_model_len` 0: what fits in
    the cache, at most 131,072. `time_scale` 2 runs twice as fast as the hardware. `max_num_queued_reqs` 0: no limit."""

    hardware: Hardware
    block_size: int = 16
    num_gpu_blocks: int = 0
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int = 0
    max_num_queued_reqs: int = 0
    max_loras: int = 1
    time_scale: float = 1.0
    enable_prefix_caching: bool = True

    def __post_init__(self) -> None:
        problems = [
            Problem(name, "must be positive")
            for name in ("block_size", "max_num_seqs", "max_num_batched_tokens", "max_loras", "time_scale")
            if getattr(self, name) <= 0
        ]
        if problems:
            raise ConfigError(problems, "simulated engine")
        if self.blocks <= NULL_BLOCKS:
            raise ConfigError([Problem("num_gpu_blocks", "leaves no block to use")], "simulated engine")
        if self.max_model_len > (fits := self.capacity * self.block_size):
            problem = Problem("max_model_len", f"{self.max_model_len} tokens do not fit in a KV cache of {fits}")
            raise ConfigError([problem], "simulated engine")

    @property
    def blocks(self) -> int:
        """`num_gpu_blocks` as resolved."""
        return self.num_gpu_blocks or self.hardware.kv_tokens // self.block_size

    @property
    def capacity(self) -> int:
        """Blocks that sequences can have."""
        return self.blocks - NULL_BLOCKS

    @property
    def context(self) -> int:
        """`max_model_len` as resolved, in tokens."""
        return self.max_model_len or min(131_072, self.capacity * self.block_size)


class Engine:
    """One model server's scheduler, cache and step in progress. `add` and `abort` between steps, `advance` at `due`."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.stats = Stats()
        self.pool = BlockPool(config.capacity)
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.deferred = 0  # of the waiting, those passed over for want of an adapter slot
        self.due: float | None = None
        self._batch: list[tuple[Sequence, int]] = []
        self._adapters = False  # any adapter ever asked for
        self._block_bytes = config.block_size * tokens.WIDTH

    def add(self, sequence: Sequence, now: float) -> None:
        """Queues a sequence; an idle engine starts a step at once. Its prompt must fit: see `EngineConfig.context`."""
        sequence.arrived_at = now
        self.waiting.append(sequence)
        self._adapters = self._adapters or bool(sequence.adapter)
        if self.due is None:
            self._start(now)

    def abort(self, sequence: Sequence, now: float) -> None:
        """Ends a sequence early and frees its blocks; nothing happens if it is over."""
        if sequence.finish:
            return
        sequence.finish = "abort"
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._free(sequence)
        self.stats.ended(sequence, now)

    def advance(self) -> list[Sequence]:
        """Ends the step that is `due`, starts the next at that very time; returns those that got a token."""
        now = self.due
        if now is None:
            raise RuntimeError("the engine is idle")
        progressed: list[Sequence] = []
        prompt_tokens = 0
        for sequence, count in self._batch:
            if sequence.finish:
                continue  # aborted during the step
            sequence.computed += count
            if sequence.computed < sequence.tokens:
                continue  # a prompt chunk
            if sequence.first_token_at is None:
                prompt_tokens += sequence.prompt_tokens - sequence.cached_tokens
            self._token(sequence, now)
            progressed.append(sequence)
        self.stats.iteration_tokens.observe(prompt_tokens + len(progressed))
        if any(sequence.finish for sequence in progressed):
            self.running = [sequence for sequence in self.running if not sequence.finish]
        self._start(now)
        return progressed

    def _token(self, sequence: Sequence, now: float) -> None:
        self.stats.token(sequence, now)
        sequence.grow(self._block_bytes)
        sequence.last_token_at = now
        if sequence.first_token_at is None:
            sequence.first_token_at = now
        if sequence.generated < sequence.stop_at:
            return
        sequence.finish = "stop" if sequence.stop_at < sequence.max_tokens else "length"
        self._free(sequence)
        self.stats.ended(sequence, now)

    def _start(self, now: float) -> None:
        self._batch = batch = self._plan(now)
        if self._adapters:
            self._note_adapters(now)
        self.due = now + self._duration(batch) / self.config.time_scale if batch else None

    def _plan(self, now: float) -> list[tuple[Sequence, int]]:
        budget = self.config.max_num_batched_tokens
        preempted = self.stats.preemptions
        batch: list[tuple[Sequence, int]] = []
        position = 0
        while position < len(self.running) and budget > 0:
            sequence = self.running[position]
            count = min(sequence.tokens - sequence.computed, budget)
            if not self._reserve(sequence, count):
                break  # it preempted itself, so it was the last
            batch.append((sequence, count))
            budget -= count
            position += 1
        if preempted == self.stats.preemptions:
            self._admit(batch, budget, now)
        return batch

    def _reserve(self, sequence: Sequence, count: int) -> bool:
        """Blocks for `count` more tokens of a running sequence, if need be those of younger ones."""
        while True:
            missing = -(-(sequence.computed + count) // self.config.block_size) - len(sequence.blocks)
            if missing <= self.pool.free:
                break
            victim = self.running.pop()
            self._free(victim)
            victim.computed = 0
            victim.preemptions += 1
            self.stats.preemptions += 1
            self.waiting.appendleft(victim)
            if victim is sequence:
                return False
        if missing > 0:
            sequence.blocks += self.pool.take(missing)
        self._store(sequence, count)
        return True

    def _admit(self, batch: list[tuple[Sequence, int]], budget: int, now: float) -> None:
        skipped: list[Sequence] = []
        adapters = {sequence.adapter for sequence in self.running if sequence.adapter}
        while self.waiting and budget > 0 and len(self.running) < self.config.max_num_seqs:
            sequence = self.waiting[0]
            if sequence.adapter and sequence.adapter not in adapters and len(adapters) >= self.config.max_loras:
                skipped.append(self.waiting.popleft())
                continue
            count = self._enter(sequence, budget)
            if not count:
                break
            self.waiting.popleft()
            self.running.append(sequence)
            if sequence.adapter:
                adapters.add(sequence.adapter)
            if sequence.scheduled_at is None:
                sequence.scheduled_at = now
                self.stats.admitted(sequence)
            batch.append((sequence, count))
            budget -= count
        self.deferred = len(skipped)
        self.waiting.extendleft(reversed(skipped))

    def _enter(self, sequence: Sequence, budget: int) -> int:
        """Takes a waiting sequence's cached blocks and those for its first chunk; 0 if there are too few."""
        size = self.config.block_size
        # the last token is always computed: its output is what the next token is sampled from
        limit = (sequence.tokens - 1) // size if self.config.enable_prefix_caching else 0
        matched = self.pool.match(sequence.hashes, limit)
        cached = len(matched) * size
        count = min(sequence.tokens - cached, budget)
        new = -(-(cached + count) // size) - len(matched)
        if not self.pool.fits(matched, new):
            return 0
        self.pool.hold(matched)
        sequence.blocks = matched + self.pool.take(new)
        sequence.stored = len(matched)
        sequence.computed = cached
        if sequence.scheduled_at is None:
            sequence.cached_tokens = cached
        self._store(sequence, count)
        return count

    def _store(self, sequence: Sequence, count: int) -> None:
        """Makes the blocks findable that this step fills; those after it in the same step share them, as in vLLM."""
        if not self.config.enable_prefix_caching:
            return
        full = min((sequence.computed + count) // self.config.block_size, len(sequence.hashes))
        for index in range(sequence.stored, full):
            self.pool.store(sequence.blocks[index], sequence.hashes[index])
        sequence.stored = max(sequence.stored, full)

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.stored = 0

    def _duration(self, batch: list[tuple[Sequence, int]]) -> float:
        total = context = 0
        pairs = 0.0
        for sequence, count in batch:
            total += count
            if count == 1:
                context += sequence.computed + 1
            else:
                pairs += count * (sequence.computed + (count + 1) / 2)
        return self.config.hardware.step_seconds(total, pairs, context, len(batch))

    def _note_adapters(self, now: float) -> None:
        """vLLM keeps a series for every combination ever seen, with the time when it was last true."""
        running = ",".join(sorted({sequence.adapter for sequence in self.running if sequence.adapter}))
        queued = list(self.waiting)[self.deferred :]
        waiting = ",".join(sorted({sequence.adapter for sequence in queued if sequence.adapter}))
        self.stats.adapters[running, waiting] = now
