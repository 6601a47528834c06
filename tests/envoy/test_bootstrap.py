"""Envoy's own validation accepts every variant of the bootstrap."""

from __future__ import annotations

import asyncio
import json

import pytest

from epp.gateway import programs
from epp.gateway.envoy_bootstrap import EnvoySettings, build_bootstrap

KNOWN = ("127.0.0.1:8000", "[::1]:8001")
VARIANTS = {
    "override_host": {},
    "fail_open": {"fail_open": True},
    "original_dst": {"shape": "original_dst", "endpoints": ()},
    "no endpoints": {"endpoints": ()},
    "no picker": {"picker_address": ""},
    "extproc": {"completion": "extproc"},
    "scrape": {"completion": "scrape"},
    "observed share": {"observe_responses": True},
    "buffered": {"body_mode": "BUFFERED", "completion": "extproc"},
    "streamed": {"body_mode": "STREAMED", "completion": "extproc"},
    "tls": {"picker_tls": True},
    "subset": {"subset_header": "x-subset"},
    "no retries": {"retries": 0},
    "connect retries only": {"retry_statuses": ()},
    "round robin fallback": {"fallback": "round_robin"},
    "ipv6": {"host": "::1", "picker_address": "[::1]:9002"},
}


@pytest.mark.parametrize("name", VARIANTS)
async def test_envoy_validates_the_bootstrap(name, tmp_path):
    path = tmp_path / "envoy.json"
    settings = EnvoySettings(**{"picker_address": "127.0.0.1:9002", "endpoints": KNOWN, **VARIANTS[name]})
    path.write_text(json.dumps(build_bootstrap(settings)))
    process = await asyncio.create_subprocess_exec(
        programs.find_envoy_binary(), "--mode", "validate", "-c", str(path), "-l", "warn",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert output.decode().strip() == f"configuration '{path}' OK"
