"""The picker dies, hangs, or was never there."""

from __future__ import annotations

import asyncio
import json
import signal

import aiohttp
import pytest

STREAMS = 100


@pytest.mark.parametrize("shape", ["override_host", "original_dst"])
async def test_killing_the_picker_truncates_none_of_100_open_answers(lab, shape):
    backends = await lab.backends(3)
    gateway = await lab.gateway(*backends, shape=shape)
    for backend in backends:
        backend.let_go.clear()
    answers = [await lab.stream(gateway) for _ in range(STREAMS)]
    await asyncio.gather(*(answer.content.readline() for answer in answers))
    killed = gateway.signal_picker()
    await gateway.wait_for_picker(other_than=killed)
    for backend in backends:
        backend.let_go.set()
    texts = await asyncio.gather(*(answer.text() for answer in answers))
    assert [text.endswith("data: [DONE]\n\n") for text in texts] == [True] * STREAMS


async def test_with_completion_by_extproc_a_killed_picker_truncates_what_it_watches(lab):
    (backend,) = await lab.backends(1)
    gateway = await lab.gateway(backend, completion="extproc")
    backend.let_go.clear()
    async with lab.stream(gateway) as answer:
        await answer.content.readline()
        await gateway.wait_for_picker(other_than=gateway.signal_picker())
        backend.let_go.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.text()


@pytest.mark.parametrize("shape", ["override_host", "original_dst"])
async def test_requests_that_come_while_the_picker_restarts_wait_for_it(lab, shape):
    backends = await lab.backends(2)
    gateway = await lab.gateway(*backends, shape=shape)
    killed = gateway.signal_picker()
    small = [lab.complete(gateway, {"model": "m", "prompt": "p" * size}) for size in (10, 1_000, 50_000)]
    asked = [asyncio.create_task(one) for one in small]

    async def gone() -> bool:
        return gateway.picker_pid != killed

    await lab.eventually(gone, "the picker is dead")
    # Envoy cannot replay these: one that is at the picker when it dies is lost, one that comes later is not.
    large = [lab.complete(gateway, {"model": "m", "prompt": "p" * 400_000}) for _ in range(20)]
    asked += [asyncio.create_task(one) for one in large]
    await gateway.wait_for_picker(other_than=killed)
    answers = await asyncio.gather(*asked)
    assert {status for status, _ in answers} == {200}
    assert all(seen["headers"]["x-gateway-destination-endpoint"] == seen["who"] for _, seen in answers)


async def test_a_picker_that_hangs_is_bounded_by_the_idle_timeout(lab):
    gateway = await lab.gateway(*await lab.backends(1), idle_timeout=1.0)
    gateway.signal_picker(signal.SIGSTOP)
    status, text = await lab.complete(gateway)
    assert (status, text) == (504, "stream timeout")


async def test_without_a_picker_known_endpoints_serve_by_load_and_not_by_the_clients_will(lab):
    chosen, spoofed = await lab.backends(2)
    url, admin = (await lab.envoy_without_picker(chosen, fail_open=True)).split()
    await _given_up(lab, admin)
    spoof = {"x_gateway_destination_endpoint": spoofed.target, "x_gateway_destination_endpoint_subset": spoofed.target}
    status, seen = await lab.complete(url, **spoof)
    assert (status, seen["who"]) == (200, chosen.target)
    assert spoofed.target not in seen["headers"].values()


async def test_without_a_picker_and_failing_closed_the_answer_is_503(lab):
    url, admin = (await lab.envoy_without_picker(*await lab.backends(1), fail_open=False)).split()
    await _given_up(lab, admin)
    assert (await lab.complete(url))[0] == 503


async def test_without_a_picker_nobody_gets_envoy_to_call_an_address_of_the_clients_choice(lab):
    (victim,) = await lab.backends(1)
    url, admin = (await lab.envoy_without_picker(shape="original_dst")).split()
    await _given_up(lab, admin)
    for target in (victim.target, admin):
        status, _ = await lab.complete(url, x_gateway_destination_endpoint=target, x_envoy_original_dst_host=target)
        assert status == 503
    assert victim.served == 0


async def _given_up(lab, admin: str) -> None:
    """Envoy's health checks have found out that nobody is there."""

    async def failed() -> bool:
        async with lab.client.get(f"http://{admin}/clusters?format=json") as answer:
            clusters = {one["name"]: one for one in json.loads(await answer.text())["cluster_statuses"]}
        return all(
            "failed_active_health_check" in host["health_status"] for host in clusters["picker"]["host_statuses"]
        )

    await lab.eventually(failed, "the picker's health check fails")
