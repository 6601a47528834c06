"""DNS discovery with a scripted resolver, and with the system's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import pytest

from epp.datalayer.discovery.dns import DnsDiscovery, resolve_addresses
from epp.errors import ConfigError


class ScriptedResolver:
    """Answers with the next of its lists; an exception is raised. After the last it blocks, and `exhausted` is set."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self._answers = list(answers)
        self.exhausted = asyncio.Event()

    async def __call__(self, name: str, port: int) -> Iterable[str]:
        if not self._answers:
            self.exhausted.set()
            await asyncio.Event().wait()
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


NOT_FOUND = socket.gaierror(socket.EAI_NONAME, "unknown name")
TEMPORARY_FAILURE = socket.gaierror(socket.EAI_AGAIN, "cannot be resolved: try again")


def discovery(target: str, resolver: ScriptedResolver) -> DnsDiscovery:
    found = DnsDiscovery(target=target, interval_seconds=0.0)
    found.resolve = resolver
    return found


async def reported_names(notifier, running, *answers: list[str] | Exception, name: str = "vllm") -> list[list[str]]:
    """Names of the endpoints of each list that follows from these answers."""
    resolver = ScriptedResolver(*answers)
    async with running(discovery(f"{name}:8000", resolver)):
        await resolver.exhausted.wait()
    lists = []
    while not notifier.lists.empty():
        lists.append([endpoint.name for endpoint in notifier.lists.get_nowait()])
    return lists


async def test_each_change_of_the_addresses_is_reported_once(notifier, running):
    answers = (["10.0.0.2", "10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"], ["fd00::1"])
    assert await reported_names(notifier, running, *answers, name="vllm.default.svc") == [
        ["vllm.default.svc/10.0.0.1:8000", "vllm.default.svc/10.0.0.2:8000"],
        ["vllm.default.svc/[fd00::1]:8000"],
    ]


async def test_a_failure_keeps_the_last_addresses_and_is_logged_once(notifier, running, caplog):
    caplog.set_level("INFO")
    lists = await reported_names(notifier, running, ["10.0.0.1"], NOT_FOUND, [], ["10.0.0.1"])
    assert lists == [["vllm/10.0.0.1:8000"]]
    assert [record.getMessage() for record in caplog.records] == [
        "vllm: 1 addresses",
        "vllm: cannot be resolved: unknown name; keeping the last addresses",
        "vllm: 1 addresses",
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (NOT_FOUND, "cannot be resolved: unknown name"),
        (TEMPORARY_FAILURE, "cannot be resolved: try again"),
        (TimeoutError(), "no answer from the resolver"),
        ([], "no addresses"),
    ],
    ids=["no such name", "failing resolver", "silent resolver", "no addresses"],
)
async def test_a_first_resolution_that_fails_is_an_empty_first_list(notifier, running, caplog, answer, reason):
    assert await reported_names(notifier, running, answer, ["10.0.0.1"]) == [[], ["vllm/10.0.0.1:8000"]]
    assert notifier.synced
    assert f"{reason}; no endpoints yet" in caplog.text


async def test_a_second_run_while_the_resolver_fails_lists_the_last_addresses(notifier, running):
    resolver = ScriptedResolver(["10.0.0.1"], UnicodeError("a bug"), TEMPORARY_FAILURE)
    vllm = discovery("vllm:8000", resolver)
    with pytest.raises(UnicodeError):
        await vllm.run(notifier)
    async with running(vllm):
        await resolver.exhausted.wait()
    for _ in range(2):
        assert [endpoint.name for endpoint in notifier.lists.get_nowait()] == ["vllm/10.0.0.1:8000"]
    assert notifier.lists.empty()


async def test_the_system_resolver_is_queried_at_every_interval(notifier, running):
    resolutions = asyncio.Semaphore(0)

    async def resolve(name: str, port: int) -> Iterable[str]:
        resolutions.release()
        return await resolve_addresses(name, port)

    loopback = DnsDiscovery(target="127.0.0.1:8000", interval_seconds=0.001)
    loopback.resolve = resolve
    async with running(loopback):
        for _ in range(3):
            await resolutions.acquire()
        assert [endpoint.name for endpoint in await notifier.lists.get()] == ["127.0.0.1/127.0.0.1:8000"]
    assert notifier.lists.empty()


@pytest.mark.parametrize("target", ["vllm", "vllm:0", ":80", "vllm:http", "a..b:80"])
async def test_a_malformed_target_is_a_config_error(target, notifier):
    with pytest.raises(ConfigError, match=f"--dns {target}: "):
        await DnsDiscovery(target=target).run(notifier)
