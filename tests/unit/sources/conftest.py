from pathlib import Path

import pytest

from epp.api import Endpoint


@pytest.fixture(scope="session")
def capture() -> bytes:
    """The page of a vLLM under load: 16 running, 24 waiting, three LoRA combinations."""
    return (Path(__file__).parents[2] / "data/vllm/metrics_under_load.txt").read_bytes()


@pytest.fixture
def labelled():
    """An endpoint with labels: labelled("sglang") or labelled(**{"key": "value"})."""

    def build(engine_type: str = "", /, **labels: str) -> Endpoint:
        if engine_type:
            labels["llm-d.ai/engine-type"] = engine_type
        return Endpoint(name="a", address="10.0.0.1", port=8000, labels=labels)

    return build
