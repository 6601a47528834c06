"""A model of the duration of one engine step on given hardware.

    step = overhead + sequences * s + hypot(tokens * c, w) + pairs * a + context * k

    tokens      that the step computes, prompt and decode alike; c: seconds of matrix products a token
    w           seconds to read all weights once, whatever the batch
    pairs       (query, key) pairs of prompt chunks; a: seconds of attention compute a pair
    context     tokens of KV cache that decoding requests read; k: seconds of memory a token
    sequences   requests in the batch; s: seconds of sampling and bookkeeping for each

`hypot` joins two regimes: with few tokens a step is bound by reading the weights, with many by arithmetic. The
coefficients come from data sheets (dense bf16 FLOP/s, memory bandwidth) times efficiencies fitted to the measured
prompt and token times of Splitwise (Patel et al., ISCA 2024; `data/perf_model.csv` of
Mutinifni/splitwise-sim, MIT: Llama-2-70B on 2 x H100 and 2 x A100); tests/unit/sim/test_hardware.py holds the measured
points. Not in the model: CPU contention of the API server, speculative decoding, quantisation, expert parallelism.
Efficiencies are those of 2023's kernels, so absolute times are on the slow side of today's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Hardware:
    """The coefficients, all in seconds, and how many tokens of KV cache fit."""

    name: str
    token_seconds: float
    weight_seconds: float
    pair_seconds: float
    context_seconds: float
    sequence_seconds: float
    overhead_seconds: float
    kv_tokens: int

    def step_seconds(self, tokens: int, pairs: float, context: int, sequences: int) -> float:
        """The duration of one step; arguments as in the formula above."""
        return (
            self.overhead_seconds
            + sequences * self.sequence_seconds
            + hypot(tokens * self.token_seconds, self.weight_seconds)
            + pairs * self.pair_seconds
            + context * self.context_seconds
        )


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator: FLOP/s, bytes/s and bytes of its data sheet, and the efficiencies that were fitted."""

    flops: float
    bandwidth: float
    memory: float
    linear_efficiency: float
    weight_efficiency: float
    attention_efficiency: float
    context_efficiency: float


@dataclass(frozen=True, slots=True)
class TransformerModel:
    """A dense transformer in bf16; `kv_bytes` for each token, over all layers."""

    parameters: float
    layers: int
    hidden: int
    kv_bytes: int


H100 = Gpu(
    989e12,
    3.35e12,
    80e9,
    linear_efficiency=0.478,
    weight_efficiency=0.60,
    attention_efficiency=0.31,
    context_efficiency=0.48,
)
A100 = Gpu(
    312e12,
    2.04e12,
    80e9,
    linear_efficiency=0.62,
    weight_efficiency=0.65,
    attention_efficiency=0.50,
    context_efficiency=0.48,
)
LLAMA_3_8B = TransformerModel(8.03e9, layers=32, hidden=4096, kv_bytes=131_072)
LLAMA_2_70B = TransformerModel(69e9, layers=80, hidden=8192, kv_bytes=327_680)

BYTES_PER_WEIGHT = 2
GPU_MEMORY_UTILIZATION = 0.9
"""vLLM's `--gpu-memory-utilization`, long 0.9 by default."""
WORKSPACE_BYTES = 3e9
"""For activations and CUDA graphs on each GPU; an assumption."""


def build_hardware(
    name: str, gpu: Gpu, model: TransformerModel, *, gpus: int = 1, overhead: float = 0.002, sequence: float = 25e-6
) -> Hardware:
    """`model` spread evenly over `gpus`; the fitted efficiencies include their communication.

    `overhead` is the remainder of the fit at batch 1. `sequence` is an assumption for the scheduler and sampler of vLLM
    V1; the stack measured in 2023 took 0.28 ms.
    """
    weights = model.parameters * BYTES_PER_WEIGHT
    memory = gpus * (gpu.memory * GPU_MEMORY_UTILIZATION - WORKSPACE_BYTES) - weights
    return Hardware(
        name=name,
        token_seconds=2 * model.parameters / (gpus * gpu.flops * gpu.linear_efficiency),
        weight_seconds=weights / (gpus * gpu.bandwidth * gpu.weight_efficiency),
        pair_seconds=4 * model.hidden * model.layers / (gpus * gpu.flops * gpu.attention_efficiency),
        context_seconds=model.kv_bytes / (gpus * gpu.bandwidth * gpu.context_efficiency),
        sequence_seconds=sequence,
        overhead_seconds=overhead,
        kv_tokens=int(memory / model.kv_bytes),
    )


FAST = Hardware("fast", 1e-6, 2e-4, 0.0, 0.0, 1e-6, 1e-4, 65_536)
"""No real machine: for tests that need fast responses."""

HARDWARE_PRESETS: Mapping[str, Hardware] = MappingProxyType(
    {
        hardware.name: hardware
        for hardware in (
            build_hardware("h100-8b", H100, LLAMA_3_8B),
            build_hardware("a100-8b", A100, LLAMA_3_8B),
            build_hardware("4xh100-70b", H100, LLAMA_2_70B, gpus=4),
            build_hardware("4xa100-70b", A100, LLAMA_2_70B, gpus=4),
            FAST,
        )
    }
)
