"""The step-time model against times measured by Splitwise: Llama-2-70B on two GPUs, medians in milliseconds."""

from __future__ import annotations

import pytest

from epp.sim.hardware import A100, H100, HARDWARE_PRESETS, LLAMA_2_70B, build_hardware

MEASURED = {
    name: build_hardware(name, gpu, LLAMA_2_70B, gpus=2, sequence=280e-6)
    for name, gpu in [("h100", H100), ("a100", A100)]
}

PROMPT = {  # tokens of one prompt -> time to first token
    "h100": {128: 48.3, 256: 51.5, 512: 83.8, 1024: 158, 2048: 310, 4096: 642, 8192: 1340},
    "a100": {128: 81.1, 256: 112.9, 512: 196, 1024: 377, 2048: 687, 4096: 1490, 8192: 2980},
}
TOKEN = {  # sequences of 512 tokens -> time of a token
    "h100": {1: 37.0, 2: 37.4, 4: 40.0, 8: 40.4, 16: 42.0, 32: 52.3},
    "a100": {1: 54.9, 2: 59.9, 4: 60.5, 8: 61.7, 16: 65.5, 32: 72.2},
}


@pytest.mark.parametrize("name", PROMPT)
def test_times_to_first_token(name: str) -> None:
    for size, measured in PROMPT[name].items():
        modelled = 1000 * MEASURED[name].step_seconds(size, size * (size + 1) / 2, 0, 1)
        assert modelled == pytest.approx(measured, rel=0.2), size


@pytest.mark.parametrize("name", TOKEN)
def test_times_of_a_token(name: str) -> None:
    for sequences, measured in TOKEN[name].items():
        modelled = 1000 * MEASURED[name].step_seconds(sequences, 0, sequences * 576, sequences)
        assert modelled == pytest.approx(measured, rel=0.15), sequences


def test_kv_cache_sizes() -> None:
    assert 350_000 < HARDWARE_PRESETS["h100-8b"].kv_tokens < 450_000
    assert all(hardware.kv_tokens > 10_000 for hardware in HARDWARE_PRESETS.values())
