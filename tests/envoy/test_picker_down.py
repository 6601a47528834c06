"""The picker is killed, hangs, or never starts."""

from __future__ import annotations

import asyncio
import json
import signal

import aiohttp
import pytest

STREAMS = 100


@pytest.mark.parametrize("shape", ["override_host", "original_dst"])
async def test_killing_the_picker_truncates_none_of_100_open_responses(lab, shape):
    backends = await lab.start_backends(3)
    gateway = await lab.start_gateway(*backends, shape=shape)
    for backend in backends:
        backend.may_continue.clear()
    responses = [await lab.stream_completion(gateway) for _ in range(STREAMS)]
    await asyncio.gather(*(response.content.readline() for response in responses))
    killed = gateway.signal_picker()
    await gateway.wait_for_picker(other_than=killed)
    for backend in backends:
        backend.may_continue.set()
    texts = await asyncio.gather(*(response.text() for response in responses))
    assert [text.endswith("data: [DONE]\n\n") for text in texts] == [True] * STREAMS


async def test_with_completion_by_extproc_killing_the_picker_truncates_the_response(lab):
    (backend,) = await lab.start_backends(1)
    gateway = await lab.start_gateway(backend, completion="extproc")
    backend.may_continue.clear()
    async with lab.stream_completion(gateway) as response:
        await response.content.readline()
        await gateway.wait_for_picker(other_than=gateway.signal_picker())
        backend.may_continue.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.text()


@pytest.mark.parametrize("shape", ["override_host", "original_dst"])
async def test_requests_wait_while_the_picker_restarts(lab, shape):
    backends = await lab.start_backends(2)
    gateway = await lab.start_gateway(*backends, shape=shape)
    killed = gateway.signal_picker()
    small = [lab.post_completion(gateway, {"model": "m", "prompt": "p" * size}) for size in (10, 1_000, 50_000)]
    requests = [asyncio.create_task(request) for request in small]

    async def exited() -> bool:
        return gateway.picker_pid != killed

    await lab.wait_until(exited, "the picker has exited")
    # Envoy cannot send these bodies again: sent only now, so that none is lost with the killed picker.
    large = [lab.post_completion(gateway, {"model": "m", "prompt": "p" * 400_000}) for _ in range(20)]
    requests += [asyncio.create_task(request) for request in large]
    await gateway.wait_for_picker(other_than=killed)
    responses = await asyncio.gather(*requests)
    assert {status for status, _ in responses} == {200}
    assert all(seen["headers"]["x-gateway-destination-endpoint"] == seen["who"] for _, seen in responses)


async def test_a_picker_that_hangs_is_bounded_by_the_idle_timeout(lab):
    gateway = await lab.start_gateway(*await lab.start_backends(1), idle_timeout=1.0)
    gateway.signal_picker(signal.SIGSTOP)
    status, text = await lab.post_completion(gateway)
    assert (status, text) == (504, "stream timeout")


async def test_without_a_picker_failing_open_ignores_destination_headers_of_clients(lab):
    chosen, spoofed = await lab.start_backends(2)
    url, admin = (await lab.start_envoy_without_picker(chosen, fail_open=True)).split()
    await _wait_until_unhealthy(lab, admin)
    spoof = {"x_gateway_destination_endpoint": spoofed.target, "x_gateway_destination_endpoint_subset": spoofed.target}
    status, seen = await lab.post_completion(url, **spoof)
    assert (status, seen["who"]) == (200, chosen.target)
    assert spoofed.target not in seen["headers"].values()


async def test_without_a_picker_failing_closed_is_503(lab):
    url, admin = (await lab.start_envoy_without_picker(*await lab.start_backends(1), fail_open=False)).split()
    await _wait_until_unhealthy(lab, admin)
    assert (await lab.post_completion(url))[0] == 503


async def test_without_a_picker_envoy_does_not_connect_to_an_address_given_by_the_client(lab):
    (victim,) = await lab.start_backends(1)
    url, admin = (await lab.start_envoy_without_picker(shape="original_dst")).split()
    await _wait_until_unhealthy(lab, admin)
    for target in (victim.target, admin):
        status, _ = await lab.post_completion(
            url, x_gateway_destination_endpoint=target, x_envoy_original_dst_host=target
        )
        assert status == 503
    assert victim.served == 0


async def _wait_until_unhealthy(lab, admin: str) -> None:
    """Waits until Envoy's health check of the picker has failed."""

    async def failed() -> bool:
        async with lab.client.get(f"http://{admin}/clusters?format=json") as response:
            clusters = {cluster["name"]: cluster for cluster in json.loads(await response.text())["cluster_statuses"]}
        return all(
            "failed_active_health_check" in host["health_status"] for host in clusters["picker"]["host_statuses"]
        )

    await lab.wait_until(failed, "the picker's health check fails")
