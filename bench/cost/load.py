"""The load generator: wrk if it is installed, else bench.cost.client; and the request bodies."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec

from bench.cost.processes import BenchError

REQUEST_PATH = "/v1/chat/completions"
VOCABULARY_SIZE = 2000
_SECONDS_PER_UNIT = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_WRK_SCRIPT = """\
local requests, turn = {{}}, 0
function init(args)  -- the Host header is known only from here on
  wrk.headers["content-type"] = "application/json"
  for body in io.lines({path}) do
    requests[#requests + 1] = wrk.format("POST", nil, nil, body)
  end
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
"""


class LoadResult(msgspec.Struct, frozen=True):
    """Result of one run of the load generator; latencies in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float


def build_bodies(size: int, count: int, seed: int = 1) -> list[str]:
    """Chat requests of about `size` bytes: the first half of the prompt is the same in all, the second differs."""
    rng = Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(VOCABULARY_SIZE)]

    def text(length: int) -> str:
        return " ".join(rng.choices(words, k=length // 5))[:length]

    room = max(16, size - 90)
    shared = text(room // 2)
    return [
        json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": shared + text(room // 2)}]})
        for _ in range(count)
    ]


class LoadGenerator:
    """Sends generated bodies in turn over a number of connections."""

    def __init__(self, folder: Path, size: int) -> None:
        self._bodies_path = folder / "bodies.jsonl"
        self._bodies_path.write_text("\n".join(build_bodies(size, 16 if size > 50_000 else 64)) + "\n")
        self._script_path = folder / "requests.lua"
        self._script_path.write_text(_WRK_SCRIPT.format(path=json.dumps(str(self._bodies_path))))
        self._wrk = shutil.which("wrk")

    @property
    def name(self) -> str:
        return "wrk" if self._wrk else "bench.cost.client"

    def run(self, port: int, connections: int, seconds: float) -> LoadResult:
        """Blocks for about `seconds`. Raises BenchError if any response was missing or not 2xx."""
        url = f"http://127.0.0.1:{port}{REQUEST_PATH}"
        whole_seconds = max(1, round(seconds))  # wrk takes no fractions
        if self._wrk:
            options = [
                "-t1",
                f"-c{connections}",
                f"-d{whole_seconds}s",
                "--timeout",
                "30s",
                "--latency",
                "-s",
                str(self._script_path),
            ]
            return parse_wrk_report(_run_generator([self._wrk, *options, url], whole_seconds))
        options = [
            "--connections",
            str(connections),
            "--seconds",
            str(whole_seconds),
            "--bodies",
            str(self._bodies_path),
        ]
        text = _run_generator([sys.executable, "-m", "bench.cost.client", url, *options], whole_seconds)
        return msgspec.json.decode(text, type=LoadResult)


def parse_wrk_report(text: str) -> LoadResult:
    """Reads wrk's report. Raises BenchError on failed requests."""
    for failure in ("Non-2xx", "Socket errors"):
        if match := re.search(rf"{failure}.*", text):
            raise BenchError(f"the load generator reports: {match[0]}")
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", text)
    quantiles = {share: (value, unit) for share, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s|m)\b", text)}
    if total is None or "50" not in quantiles or "99" not in quantiles:
        raise BenchError(f"cannot read the report of wrk:\n{text}")
    p50, p99 = (float(quantiles[share][0]) * _SECONDS_PER_UNIT[quantiles[share][1]] for share in ("50", "99"))
    return LoadResult(int(total[1]), float(total[2]) * _SECONDS_PER_UNIT[total[3]], p50, p99)


def _run_generator(command: list[str], seconds: int) -> str:
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"the load generator did not end: {error}") from error
    if process.returncode:
        raise BenchError(f"the load generator ended with {process.returncode}:\n{process.stdout}{process.stderr}")
    return process.stdout
