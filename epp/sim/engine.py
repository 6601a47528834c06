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
from epp.sim.block_pool import BlockPool
from epp.sim.hardware import Hardware
from epp.sim.request import SimRequest
from epp.sim.stats import EngineStats

NULL_BLOCKS = 1
"""vLLM keeps one block that nobody gets; `num_gpu_blocks` counts it, usage does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimEngineConfig:
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
        if self.total_blocks <= NULL_BLOCKS:
            raise ConfigError([Problem("num_gpu_blocks", "leaves no block to use")], "simulated engine")
        if self.max_model_len > (fits := self.usable_blocks * self.block_size):
            problem = Problem("max_model_len", f"{self.max_model_len} tokens do not fit in a KV cache of {fits}")
            raise ConfigError([problem], "simulated engine")

    @property
    def total_blocks(self) -> int:
        """`num_gpu_blocks` as resolved."""
        return self.num_gpu_blocks or self.hardware.kv_tokens // self.block_size

    @property
    def usable_blocks(self) -> int:
        """Blocks that sequences can have."""
        return self.total_blocks - NULL_BLOCKS

    @property
    def context_tokens(self) -> int:
        """`max_model_len` as resolved, in tokens."""
        return self.max_model_len or min(131_072, self.usable_blocks * self.block_size)


class SimEngine:
    """One model server's scheduler, cache and step in progress. `add` and `abort` between steps, `advance` at `due`."""

    def __init__(self, config: SimEngineConfig) -> None:
        self.config = config
        self.stats = EngineStats()
        self.block_pool = BlockPool(config.usable_blocks)
        self.running: list[SimRequest] = []
        self.waiting: deque[SimRequest] = deque()
        self.deferred_count = 0  # of the waiting, those passed over for want of an adapter slot
        self.step_ends_at: float | None = None
        self._scheduled: list[tuple[SimRequest, int]] = []
        self._adapters_seen = False  # any adapter ever asked for
        self._block_bytes = config.block_size * tokens.TOKEN_BYTES

    def add_request(self, sequence: SimRequest, now: float) -> None:
        """Queues a sequence; an idle engine starts a step at once. Its prompt must fit: see `EngineConfig.context`."""
        sequence.arrived_at = now
        self.waiting.append(sequence)
        self._adapters_seen = self._adapters_seen or bool(sequence.lora_name)
        if self.step_ends_at is None:
            self._start_step(now)

    def abort_request(self, sequence: SimRequest, now: float) -> None:
        """Ends a sequence early and frees its blocks; nothing happens if it is over."""
        if sequence.finish_reason:
            return
        sequence.finish_reason = "abort"
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._free_blocks(sequence)
        self.stats.record_finish(sequence, now)

    def complete_step(self) -> list[SimRequest]:
        """Ends the step that is `due`, starts the next at that very time; returns those that got a token."""
        now = self.step_ends_at
        if now is None:
            raise RuntimeError("the engine is idle")
        progressed: list[SimRequest] = []
        prompt_tokens = 0
        for sequence, count in self._scheduled:
            if sequence.finish_reason:
                continue  # aborted during the step
            sequence.computed_tokens += count
            if sequence.computed_tokens < sequence.total_tokens:
                continue  # a prompt chunk
            if sequence.first_token_at is None:
                prompt_tokens += sequence.prompt_tokens - sequence.cached_tokens
            self._append_token(sequence, now)
            progressed.append(sequence)
        self.stats.iteration_tokens.observe(prompt_tokens + len(progressed))
        if any(sequence.finish_reason for sequence in progressed):
            self.running = [sequence for sequence in self.running if not sequence.finish_reason]
        self._start_step(now)
        return progressed

    def _append_token(self, sequence: SimRequest, now: float) -> None:
        self.stats.record_token(sequence, now)
        sequence.append_token(self._block_bytes)
        sequence.last_token_at = now
        if sequence.first_token_at is None:
            sequence.first_token_at = now
        if sequence.output_tokens < sequence.stop_length:
            return
        sequence.finish_reason = "stop" if sequence.stop_length < sequence.max_tokens else "length"
        self._free_blocks(sequence)
        self.stats.record_finish(sequence, now)

    def _start_step(self, now: float) -> None:
        self._scheduled = batch = self._schedule_step(now)
        if self._adapters_seen:
            self._record_adapters(now)
        self.step_ends_at = now + self._step_seconds(batch) / self.config.time_scale if batch else None

    def _schedule_step(self, now: float) -> list[tuple[SimRequest, int]]:
        budget = self.config.max_num_batched_tokens
        preempted = self.stats.preemptions
        batch: list[tuple[SimRequest, int]] = []
        position = 0
        while position < len(self.running) and budget > 0:
            sequence = self.running[position]
            count = min(sequence.total_tokens - sequence.computed_tokens, budget)
            if not self._allocate_or_preempt(sequence, count):
                break  # it preempted itself, so it was the last
            batch.append((sequence, count))
            budget -= count
            position += 1
        if preempted == self.stats.preemptions:
            self._schedule_waiting(batch, budget, now)
        return batch

    def _allocate_or_preempt(self, sequence: SimRequest, count: int) -> bool:
        """Blocks for `count` more tokens of a running sequence, if need be those of younger ones."""
        while True:
            missing = -(-(sequence.computed_tokens + count) // self.config.block_size) - len(sequence.blocks)
            if missing <= self.block_pool.free_count:
                break
            victim = self.running.pop()
            self._free_blocks(victim)
            victim.computed_tokens = 0
            victim.preemption_count += 1
            self.stats.preemptions += 1
            self.waiting.appendleft(victim)
            if victim is sequence:
                return False
        if missing > 0:
            sequence.blocks += self.block_pool.allocate(missing)
        self._cache_full_blocks(sequence, count)
        return True

    def _schedule_waiting(self, batch: list[tuple[SimRequest, int]], budget: int, now: float) -> None:
        skipped: list[SimRequest] = []
        adapters = {sequence.lora_name for sequence in self.running if sequence.lora_name}
        while self.waiting and budget > 0 and len(self.running) < self.config.max_num_seqs:
            sequence = self.waiting[0]
            if sequence.lora_name and sequence.lora_name not in adapters and len(adapters) >= self.config.max_loras:
                skipped.append(self.waiting.popleft())
                continue
            count = self._allocate_for_waiting(sequence, budget)
            if not count:
                break
            self.waiting.popleft()
            self.running.append(sequence)
            if sequence.lora_name:
                adapters.add(sequence.lora_name)
            if sequence.scheduled_at is None:
                sequence.scheduled_at = now
                self.stats.record_admission(sequence)
            batch.append((sequence, count))
            budget -= count
        self.deferred_count = len(skipped)
        self.waiting.extendleft(reversed(skipped))

    def _allocate_for_waiting(self, sequence: SimRequest, budget: int) -> int:
        """Takes a waiting sequence's cached blocks and those for its first chunk; 0 if there are too few."""
        size = self.config.block_size
        # the last token is always computed: its output is what the next token is sampled from
        limit = (sequence.total_tokens - 1) // size if self.config.enable_prefix_caching else 0
        matched = self.block_pool.find_longest_cache_hit(sequence.block_hashes, limit)
        cached = len(matched) * size
        count = min(sequence.total_tokens - cached, budget)
        new = -(-(cached + count) // size) - len(matched)
        if not self.block_pool.can_allocate(matched, new):
            return 0
        self.block_pool.touch(matched)
        sequence.blocks = matched + self.block_pool.allocate(new)
        sequence.cached_blocks = len(matched)
        sequence.computed_tokens = cached
        if sequence.scheduled_at is None:
            sequence.cached_tokens = cached
        self._cache_full_blocks(sequence, count)
        return count

    def _cache_full_blocks(self, sequence: SimRequest, count: int) -> None:
        """Makes the blocks findable that this step fills; those after it in the same step share them, as in vLLM."""
        if not self.config.enable_prefix_caching:
            return
        full = min((sequence.computed_tokens + count) // self.config.block_size, len(sequence.block_hashes))
        for index in range(sequence.cached_blocks, full):
            self.block_pool.cache_block(sequence.blocks[index], sequence.block_hashes[index])
        sequence.cached_blocks = max(sequence.cached_blocks, full)

    def _free_blocks(self, sequence: SimRequest) -> None:
        self.block_pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.cached_blocks = 0

    def _step_seconds(self, batch: list[tuple[SimRequest, int]]) -> float:
        total = context = 0
        pairs = 0.0
        for sequence, count in batch:
            total += count
            if count == 1:
                context += sequence.computed_tokens + 1
            else:
                pairs += count * (sequence.computed_tokens + (count + 1) / 2)
        return self.config.hardware.step_seconds(total, pairs, context, len(batch))

    def _record_adapters(self, now: float) -> None:
        """vLLM keeps a series for every combination ever seen, with the time when it was last true."""
        running = ",".join(sorted({sequence.lora_name for sequence in self.running if sequence.lora_name}))
        queued = list(self.waiting)[self.deferred_count :]
        waiting = ",".join(sorted({sequence.lora_name for sequence in queued if sequence.lora_name}))
        self.stats.lora_states[running, waiting] = now
