"""`--endpoint` flags: what is an endpoint, and what is wrong with what is not."""

import pytest

from epp.datalayer.discovery.static import StaticDiscovery, parse_endpoints
from epp.errors import ConfigError


def test_parse_endpoints_canonicalizes_addresses():
    found = parse_endpoints(["10.0.0.1:8000", "[fd00:0::1]:8001", "localhost:8002"])
    assert [(e.name, e.address, e.port, e.target) for e in found] == [
        ("10.0.0.1:8000", "10.0.0.1", 8000, "10.0.0.1:8000"),
        ("[fd00::1]:8001", "fd00::1", 8001, "[fd00::1]:8001"),
        ("127.0.0.1:8002", "127.0.0.1", 8002, "127.0.0.1:8002"),
    ]


def test_parse_endpoints_reports_every_problem():
    wrong = [
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:x",
        "fd00::1:80",
        "vllm.default:8000",
        "[fe80::1%eth0]:80",
        ":80",
        "[::1]:80",
        "[0::1]:80",
    ]
    with pytest.raises(ConfigError) as raised:
        parse_endpoints(wrong)
    assert [str(problem) for problem in raised.value.problems] == [
        "--endpoint 10.0.0.1: missing port; write HOST:PORT, e.g. 10.0.0.7:8000 or [fd00::7]:8000",
        "--endpoint 10.0.0.1:0: invalid port '0': expected 1-65535",
        "--endpoint 10.0.0.1:x: invalid port 'x': expected 1-65535",
        "--endpoint fd00::1:80: an IPv6 address needs brackets; write HOST:PORT, e.g. 10.0.0.7:8000 or [fd00::7]:8000",
        "--endpoint vllm.default:8000: invalid IP address 'vllm.default'; for a DNS name use --dns NAME:PORT",
        "--endpoint [fe80::1%eth0]:80: IPv6 address 'fe80::1%eth0' has a zone, which a proxy cannot route to",
        "--endpoint :80: missing port; write HOST:PORT, e.g. 10.0.0.7:8000 or [fd00::7]:8000",
        "--endpoint [0::1]:80: is given twice",
    ]


async def test_run_reports_one_list_and_returns(notifier):
    await StaticDiscovery(targets=["10.0.0.1:8000"]).run(notifier)
    assert await notifier.targets() == ["10.0.0.1:8000"]


async def test_malformed_targets_are_a_config_error(notifier):
    with pytest.raises(ConfigError, match="--endpoint a:1: invalid IP address"):
        await StaticDiscovery(targets=["a:1"]).run(notifier)
    assert not notifier.synced
