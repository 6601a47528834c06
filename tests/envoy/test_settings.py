"""Other settings of the gateway: TLS to the picker, completion by scrapes, IPv6, trusted request ids."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("transport", ["native", "grpcio"])
async def test_tls_between_envoy_and_the_picker(lab, transport):
    (backend,) = await lab.start_backends(1)
    gateway = await lab.start_gateway(backend, picker_tls=True, transport=transport)
    status, seen = await lab.post_completion(gateway)
    assert (status, seen["headers"]["x-gateway-destination-endpoint"]) == (200, backend.target)


async def test_with_completion_by_scrapes_reservations_end_with_the_next_scrape(lab):
    gateway = await lab.start_gateway(*await lab.start_backends(2), completion="scrape")
    for _ in range(10):
        assert (await lab.post_completion(gateway))[0] == 200

    async def idle() -> bool:
        return await lab.count_inflight(gateway) == 0

    await lab.wait_until(idle, "no request in flight")


@pytest.mark.parametrize("completion", ["access-log", "scrape"])
async def test_observed_responses_fill_the_token_histograms(lab, completion):
    gateway = await lab.start_gateway(sim_servers=1, completion=completion, observe_responses=1.0)
    for _ in range(4):
        status, _ = await lab.post_completion(gateway, {"model": "sim", "prompt": "Once upon a time", "max_tokens": 3})
        assert status == 200

    async def counted() -> bool:
        async with lab.client.get(f"{gateway.metrics_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        sums = [line.split()[-1] for line in lines if line.startswith("llm_d_epp_request_output_tokens_sum")]
        return sums == ["12.0"]

    async def idle() -> bool:
        return await lab.count_inflight(gateway) == 0

    await lab.wait_until(counted, "four responses of three tokens")
    await lab.wait_until(idle, "no request in flight")


@pytest.mark.parametrize("shape", ["override_host", "original_dst"])
async def test_ipv6_endpoints(lab, shape):
    (backend,) = await lab.start_backends(1, host="::1")
    gateway = await lab.start_gateway(backend, shape=shape)
    status, seen = await lab.post_completion(gateway)
    assert (status, seen["headers"]["x-gateway-destination-endpoint"]) == (200, backend.target)


async def test_request_ids_of_trusted_clients_are_kept(lab):
    gateway = await lab.start_gateway(*await lab.start_backends(1), trust_request_id=True)
    status, seen = await lab.post_completion(gateway, x_request_id="mine")
    assert (status, seen["headers"]["x-request-id"]) == (200, "mine")


async def test_without_a_picker_requests_are_distributed_round_robin(lab):
    backends = await lab.start_backends(3)
    gateway = await lab.start_gateway(*backends, round_robin=True)
    reached = [(await lab.post_completion(gateway))[1]["who"] for _ in range(6)]
    assert sorted(reached) == sorted([backend.target for backend in backends] * 2)
    assert gateway.picker_pid == 0
