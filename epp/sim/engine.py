"""Continuous batching after vLLM V1's `Scheduler` (vllm/v1/core/sched/scheduler.py), step by step, without a clock.

The caller adds requests with the time, reads `step_ends_at` and calls `complete_step` when that time has come, in real
or virtual time. A step is scheduled when it starts. Running requests come first, in order of admission, decodes and
prompt chunks alike; then waiting ones, first come first served, as far as the token budget, `max_num_seqs` and free
blocks allow. A running request for which no block is free preempts the one admitted last, which loses its blocks and
returns to the head of the waiting queue. Not modelled: priorities, KV connectors, multi-modal and speculative tokens.
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
"""vLLM's `BlockPool.null_block`, which no request gets: `num_gpu_blocks` includes it, the usage does not."""

ScheduledStep = list[tuple[SimRequest, int]]
"""Requests and how many of their tokens a step computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimEngineConfig:
    """Options of one engine, named as in vLLM's `EngineArgs` (`num_gpu_blocks`: `CacheConfig`).

    `num_gpu_blocks` 0: as many as fit into the hardware's memory. `max_model_len` 0: as many tokens as fit into the
    cache, at most 131,072. `max_num_queued_reqs` 0: no limit. `time_scale` is not vLLM's: 2 runs twice as fast as the
    hardware.
    """

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
            problem = Problem("num_gpu_blocks", f"must be at least {NULL_BLOCKS + 1}: one is the null block")
            raise ConfigError([problem], "simulated engine")
        if self.max_model_len > (fits := self.usable_blocks * self.block_size):
            problem = Problem("max_model_len", f"{self.max_model_len} tokens do not fit in a KV cache of {fits}")
            raise ConfigError([problem], "simulated engine")

    @property
    def total_blocks(self) -> int:
        """`num_gpu_blocks` as resolved."""
        return self.num_gpu_blocks or self.hardware.kv_tokens // self.block_size

    @property
    def usable_blocks(self) -> int:
        """Blocks that requests can get."""
        return self.total_blocks - NULL_BLOCKS

    @property
    def context_tokens(self) -> int:
        """`max_model_len` as resolved, in tokens."""
        return self.max_model_len or min(131_072, self.usable_blocks * self.block_size)


class SimEngine:
    """The scheduler, cache and step in progress of one model server.

    `add_request` and `abort_request` are called between steps, `complete_step` at `step_ends_at`.
    """

    def __init__(self, config: SimEngineConfig) -> None:
        self.config = config
        self.stats = EngineStats()
        self.block_pool = BlockPool(config.usable_blocks)
        self.running: list[SimRequest] = []
        self.waiting: deque[SimRequest] = deque()
        self.deferred_count = 0  # of the waiting, those skipped in this step for lack of a LoRA slot
        self.step_ends_at: float | None = None
        self._scheduled: ScheduledStep = []
        self._uses_lora = False  # some request named an adapter
        self._block_bytes = config.block_size * tokens.TOKEN_BYTES

    def add_request(self, request: SimRequest, now: float) -> None:
        """Queues a request, and starts a step if the engine is idle. The prompt must fit in `context_tokens`."""
        request.arrived_at = now
        self.waiting.append(request)
        self._uses_lora = self._uses_lora or bool(request.lora_name)
        if self.step_ends_at is None:
            self._start_step(now)

    def abort_request(self, request: SimRequest, now: float) -> None:
        """Ends a request early and frees its blocks. No effect on a finished one."""
        if request.finish_reason:
            return
        request.finish_reason = "abort"
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)
        self._free_blocks(request)
        self.stats.record_finish(request, now)

    def complete_step(self) -> list[SimRequest]:
        """Ends the step in progress and starts the next one at the same time. Returns the requests that got a token."""
        now = self.step_ends_at
        if now is None:
            raise RuntimeError("the engine is idle")
        progressed: list[SimRequest] = []
        prompt_tokens = 0
        for request, count in self._scheduled:
            if request.finish_reason:
                continue  # aborted during the step
            request.computed_tokens += count
            if request.computed_tokens < request.total_tokens:
                continue  # a prompt chunk
            if request.first_token_at is None:
                prompt_tokens += request.prompt_tokens - request.cached_tokens
            self._append_token(request, now)
            progressed.append(request)
        self.stats.iteration_tokens.observe(prompt_tokens + len(progressed))
        if any(request.finish_reason for request in progressed):
            self.running = [request for request in self.running if not request.finish_reason]
        self._start_step(now)
        return progressed

    def _append_token(self, request: SimRequest, now: float) -> None:
        self.stats.record_token(request, now)
        request.append_token(self._block_bytes)
        request.last_token_at = now
        if request.first_token_at is None:
            request.first_token_at = now
        if request.output_tokens < request.stop_length:
            return
        request.finish_reason = "stop" if request.stop_length < request.max_tokens else "length"
        self._free_blocks(request)
        self.stats.record_finish(request, now)

    def _start_step(self, now: float) -> None:
        self._scheduled = step = self._schedule_step(now)
        if self._uses_lora:
            self._record_lora_state(now)
        self.step_ends_at = now + self._step_seconds(step) / self.config.time_scale if step else None

    def _schedule_step(self, now: float) -> ScheduledStep:
        """vLLM's `Scheduler.schedule`: the running requests; the waiting ones if none was preempted."""
        budget = self.config.max_num_batched_tokens
        preemptions = self.stats.preemptions
        step: ScheduledStep = []
        position = 0
        while position < len(self.running) and budget > 0:
            request = self.running[position]
            count = min(request.total_tokens - request.computed_tokens, budget)
            if not self._allocate_or_preempt(request, count):
                break  # it preempted itself, so it was the last
            step.append((request, count))
            budget -= count
            position += 1
        if preemptions == self.stats.preemptions:
            self._schedule_waiting(step, budget, now)
        return step

    def _allocate_or_preempt(self, request: SimRequest, count: int) -> bool:
        """Allocates blocks for `count` more tokens; False if `request` itself had to be preempted.

        As `Scheduler.schedule` with policy FCFS: `running.pop()` is the victim, and `_preempt_request` puts it at the
        head of the waiting queue with no computed tokens.
        """
        while True:
            missing = -(-(request.computed_tokens + count) // self.config.block_size) - len(request.blocks)
            if missing <= self.block_pool.free_count:
                break
            victim = self.running.pop()
            self._free_blocks(victim)
            victim.computed_tokens = 0
            victim.preemption_count += 1
            self.stats.preemptions += 1
            self.waiting.appendleft(victim)
            if victim is request:
                return False
        if missing > 0:
            request.blocks += self.block_pool.allocate(missing)
        self._cache_full_blocks(request, count)
        return True

    def _schedule_waiting(self, step: ScheduledStep, budget: int, now: float) -> None:
        """Adds waiting requests to `step`, until one does not get its blocks.

        As in `Scheduler.schedule`, a request beyond `max_loras` is skipped and keeps its place in the queue.
        """
        skipped: list[SimRequest] = []
        adapters = {request.lora_name for request in self.running if request.lora_name}
        while self.waiting and budget > 0 and len(self.running) < self.config.max_num_seqs:
            request = self.waiting[0]
            if request.lora_name and request.lora_name not in adapters and len(adapters) >= self.config.max_loras:
                skipped.append(self.waiting.popleft())
                continue
            count = self._allocate_for_waiting(request, budget)
            if not count:
                break
            self.waiting.popleft()
            self.running.append(request)
            if request.lora_name:
                adapters.add(request.lora_name)
            if request.scheduled_at is None:
                request.scheduled_at = now
                self.stats.record_admission(request)
            step.append((request, count))
            budget -= count
        self.deferred_count = len(skipped)
        self.waiting.extendleft(reversed(skipped))

    def _allocate_for_waiting(self, request: SimRequest, budget: int) -> int:
        """Takes the request's cached blocks and allocates those of its first chunk.

        Returns the tokens of the chunk; 0 if there are too few blocks.
        """
        size = self.config.block_size
        # As in vLLM's `KVCacheManager.get_computed_blocks` the last token is never a hit: the logits are needed.
        limit = (request.total_tokens - 1) // size if self.config.enable_prefix_caching else 0
        hit = self.block_pool.find_longest_cache_hit(request.block_hashes, limit)
        cached = len(hit) * size
        count = min(request.total_tokens - cached, budget)
        new = -(-(cached + count) // size) - len(hit)
        if not self.block_pool.can_allocate(hit, new):
            return 0
        self.block_pool.touch(hit)
        request.blocks = hit + self.block_pool.allocate(new)
        request.cached_blocks = len(hit)
        request.computed_tokens = cached
        if request.scheduled_at is None:
            request.cached_tokens = cached
        self._cache_full_blocks(request, count)
        return count

    def _cache_full_blocks(self, request: SimRequest, count: int) -> None:
        """Caches the blocks that this step fills.

        As in vLLM's `KVCacheManager.allocate_slots` they are cached when scheduled, before they are computed: requests
        scheduled later in the same step share them.
        """
        if not self.config.enable_prefix_caching:
            return
        full = min((request.computed_tokens + count) // self.config.block_size, len(request.block_hashes))
        for index in range(request.cached_blocks, full):
            self.block_pool.cache_block(request.blocks[index], request.block_hashes[index])
        request.cached_blocks = max(request.cached_blocks, full)

    def _free_blocks(self, request: SimRequest) -> None:
        self.block_pool.release(request.blocks)
        request.blocks = []
        request.cached_blocks = 0

    def _step_seconds(self, step: ScheduledStep) -> float:
        """The duration on this hardware; see `epp.sim.hardware` for the terms."""
        total = context = 0
        pairs = 0.0
        for request, count in step:
            total += count
            if count == 1:
                context += request.computed_tokens + 1
            else:
                pairs += count * (request.computed_tokens + (count + 1) / 2)
        return self.config.hardware.step_seconds(total, pairs, context, len(step))

    def _record_lora_state(self, now: float) -> None:
        """vLLM's `vllm:lora_requests_info`: one series for each combination, with the time at which it last held."""
        running = ",".join(sorted({request.lora_name for request in self.running if request.lora_name}))
        queued = list(self.waiting)[self.deferred_count :]
        waiting = ",".join(sorted({request.lora_name for request in queued if request.lora_name}))
        self.stats.lora_states[running, waiting] = now
