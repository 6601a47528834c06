import asyncio
import socket
from collections.abc import Iterable

import pytest

from epp.api import Endpoint
from epp.datalayer.discovery import dns
from epp.datalayer.endpoint_union import EndpointUnion
from epp.errors import ConfigError
from epp.tasks import Tasks


class Resolver:
    """Answers with the next of its lists; a string is an error."""

    def __init__(self, *answers: list[str] | str) -> None:
        self._answers = list(answers)

    async def __call__(self, name: str, port: int) -> Iterable[str]:
        answer = self._answers.pop(0)
        if isinstance(answer, str):
            raise socket.gaierror(socket.EAI_NONAME, answer)
        return answer


class Applied(list[list[str]]):
    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        self.append([endpoint.name for endpoint in endpoints])


async def test_addresses_come_and_go():
    applied = Applied()
    resolver = Resolver(["10.0.0.2", "10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"], ["fd00::1"])
    names = dns.DnsDiscovery("vllm.default.svc", 8000, EndpointUnion(applied), resolver)
    for _ in range(3):
        await names.resolve_once()
    assert applied == [
        ["vllm.default.svc/10.0.0.1:8000", "vllm.default.svc/10.0.0.2:8000"],
        ["vllm.default.svc/[fd00::1]:8000"],
    ]


async def test_a_failure_keeps_the_last_addresses_and_is_told_once(caplog):
    caplog.set_level("INFO")
    applied = Applied()
    names = dns.DnsDiscovery(
        "vllm", 8000, EndpointUnion(applied), Resolver(["10.0.0.1"], "unknown name", [], ["10.0.0.1"])
    )
    for _ in range(4):
        await names.resolve_once()
    assert applied == [["vllm/10.0.0.1:8000"]]
    assert [record.getMessage() for record in caplog.records] == [
        "vllm: 1 addresses",
        "vllm: cannot be resolved: unknown name; the last addresses stay",
        "vllm: 1 addresses",
    ]


async def test_the_system_resolver_is_asked_again_and_again():
    applied, again, tasks = Applied(), asyncio.Event(), Tasks("test")
    asked = 0

    async def resolve(name: str, port: int) -> Iterable[str]:
        nonlocal asked
        asked += 1
        if asked == 3:
            again.set()
        return await dns.resolve_addresses(name, port)

    await dns.start_dns_discovery("127.0.0.1:8000", EndpointUnion(applied), tasks, interval=0.001, resolve=resolve)
    await again.wait()
    await tasks.close()
    assert applied == [["127.0.0.1/127.0.0.1:8000"]]


@pytest.mark.parametrize("target", ["vllm", "vllm:0", ":80", "vllm:http", "a..b:80"])
async def test_what_is_no_name_and_port(target):
    with pytest.raises(ConfigError, match=f"--dns {target}: "):
        await dns.start_dns_discovery(target, EndpointUnion(Applied()), Tasks("test"))
