"""`epp sim` as a process, and its options."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from epp.cli import sim
from epp.errors import ConfigError


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    sim.add_arguments(parser)
    return parser.parse_args(words)


def test_assign_ports() -> None:
    assert sim.assign_ports([8100], None) == [8100]
    assert sim.assign_ports([8100], 3) == [8100, 8101, 8102]
    assert sim.assign_ports([0], 3) == [0, 0, 0]
    assert sim.assign_ports([8100, 9000], 2) == [8100, 9000]
    with pytest.raises(ConfigError, match="3 servers, but 2 ports"):
        sim.assign_ports([8100, 9000], 3)
    with pytest.raises(ConfigError, match="invalid port 65536: expected 0-65535"):
        sim.assign_ports([65535], 2)


def test_flags_reach_the_engine_configuration() -> None:
    config = sim.build_engine_config(options("--hardware", "fast", "--block-size", "32", "--num-gpu-blocks", "100"))
    assert (config.hardware.name, config.block_size, config.usable_blocks, config.context_tokens) == (
        "fast",
        32,
        99,
        3168,
    )


def test_every_invalid_flag_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"max_num_seqs: must be positive\n  time_scale: must be positive"):
        sim.run(options("--max-num-seqs", "0", "--time-scale", "0"))


def test_a_port_in_use_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert sim.run(options("--port", str(taken.getsockname()[1]))) == 1
    assert "address already in use" in capsys.readouterr().err


def test_serves_until_sigterm() -> None:
    code = (
        "import argparse, sys; from epp.cli import sim as command; parser = argparse.ArgumentParser();"
        "command.add_arguments(parser); sys.exit(command.run(parser.parse_args()))"
    )
    arguments = [sys.executable, "-c", code, "--port", "0", "--count", "2", "--hardware", "fast"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            urls = [process.stdout.readline().strip() for _ in range(2)]
            for url in urls:
                with urllib.request.urlopen(f"{url}/health") as answer:
                    assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
