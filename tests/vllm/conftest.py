"""Three real vLLM servers on CPU, each with a cache that holds a few long prompts."""

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
MODEL = Path(__file__).parent / "model"
START_SECONDS = 300
CACHE_BYTES = 1_600_000  # 195 blocks of 32 tokens
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


class Server:
    """One `vllm serve`, ended with everything it started."""

    def __init__(self, logs: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.log = logs / f"vllm-{self.port}.log"
        command = [
            *(ROOT / ".venv-vllm" / "bin" / "vllm", "serve", MODEL, "--served-model-name", "tiny"),
            *("--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager", "--block-size", "32"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--max-model-len", "2048", "--max-num-seqs", "16"),
            *("--kv-cache-memory-bytes", str(CACHE_BYTES), "--seed", "0"),
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT}, start_new_session=True
            )

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def wait(self) -> None:
        """Returns when the server answers; fails with the end of its log."""
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
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Three servers with the same model. `make test-vllm` has installed vLLM before."""
    logs = tmp_path_factory.mktemp("vllm")
    running = [Server(logs) for _ in range(3)]
    try:
        for server in running:
            server.wait()
        yield running
    finally:
        for server in running:
            server.stop()
