"""Simulated model servers, and a long recording."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from epp.clock import SystemClock
from epp.sim.engine import SimEngineConfig
from epp.sim.fleet import SimFleet
from epp.sim.hardware import HARDWARE_PRESETS
from tests.speech import load_librivox_sentences
from tests.transcribing import join_wav_files


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[SimFleet]:
    """Three simulated model servers."""
    config = SimEngineConfig(hardware=HARDWARE_PRESETS["fast"], num_gpu_blocks=500)
    async with SimFleet(config, SystemClock(), ports=[0, 0, 0]) as running:
        yield running


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six windows of speech, three batches of two: five sentences, six times."""
    path = tmp_path_factory.mktemp("speech") / "long.wav"
    join_wav_files(path, [source for source, _ in load_librivox_sentences()] * 6)
    return path
