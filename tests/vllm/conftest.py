"""Real vLLM servers on CPU: three with a tiny model and a small cache, one with a model that can write."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-vllm"
MODEL = Path(__file__).parent / "model"
SMOLLM = VENV / "smollm2"
START_SECONDS = 300
CACHE_BYTES = 1_600_000  # of the tiny model 195 blocks of 32 tokens
SMOLLM_CACHE_BYTES = 200_000_000  # of SmolLM2 about 8,600 tokens
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_SERVER_DEV_MODE": "1",
}


class VllmServer:
    """One `vllm serve` process and its children, on a free port of 127.0.0.1."""

    def __init__(self, logs: Path, model: Path, name: str, *flags: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.log = logs / f"vllm-{self.port}.log"
        command = [
            *(VENV / "bin" / "vllm", "serve", model, "--served-model-name", name),
            *("--dtype", "bfloat16", "--enforce-eager", "--block-size", "32", "--max-model-len", "2048"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--max-num-seqs", "16", "--seed", "0", *flags),
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT}, start_new_session=True
            )

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def wait_until_healthy(self) -> None:
        """Waits until the server is healthy; fails the test with the end of its log if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.target}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.5)
        pytest.fail(f"vLLM did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[VllmServer]]:
    """Three servers with the same model. `make test-vllm` has installed vLLM before."""
    logs = tmp_path_factory.mktemp("vllm")
    flags = ("--load-format", "dummy", "--kv-cache-memory-bytes", str(CACHE_BYTES))
    running = [VllmServer(logs, MODEL, "tiny", *flags) for _ in range(3)]
    try:
        for server in running:
            server.wait_until_healthy()
        yield running
    finally:
        for server in running:
            server.stop()


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """One server with SmolLM2-135M-Instruct; converting its weights takes half a minute, once."""
    if not SMOLLM.exists():
        subprocess.run([VENV / "bin" / "python", Path(__file__).with_name("smollm.py"), SMOLLM], check=True)
    flags = ("--kv-cache-memory-bytes", str(SMOLLM_CACHE_BYTES))
    server = VllmServer(tmp_path_factory.mktemp("smollm"), SMOLLM, "smollm2", *flags)
    try:
        server.wait_until_healthy()
        yield server
    finally:
        server.stop()
