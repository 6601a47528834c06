"""Further ways to run the gateway: TLS to the picker, completion by scrapes, IPv6, trusted request ids."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("transport", ["native", "grpcio"])
async def test_the_picker_may_be_reached_by_tls(lab, transport):
    (backend,) = await lab.backends(1)
    gateway = await lab.gateway(backend, picker_tls=True, transport=transport)
    status, seen = await lab.complete(gateway)
    assert (status, seen["headers"]["x-gateway-destination-endpoint"]) == (200, backend.target)


async def test_with_completion_by_scrapes_reservations_end_with_the_next_scrape(lab):
    gateway = await lab.gateway(*await lab.backends(2), completion="scrape")
    for _ in range(10):
        assert (await lab.complete(gateway))[0] == 200

    async def none() -> bool:
        return await lab.inflight(gateway) == 0

    await lab.eventually(none, "no request in flight")


@pytest.mark.parametrize("completion", ["access-log", "scrape"])
async def test_observed_answers_fill_the_token_histograms(lab, completion):
    gateway = await lab.gateway(sim_servers=1, completion=completion, observe_responses=1.0)
    for _ in range(4):
        status, _ = await lab.complete(gateway, {"model": "sim", "prompt": "Once upon a time", "max_tokens": 3})
        assert status == 200

    async def counted() -> bool:
        async with lab.client.get(f"{gateway.metrics_url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        sums = [line.split()[-1] for line in lines if line.startswith("llm_d_epp_request_output_tokens_sum")]
        return sums == ["12.0"]

    async def none() -> bool:
        return await lab.inflight(gateway) == 0

    await lab.eventually(counted, "four answers of three tokens")
    await lab.eventually(none, "no request in flight")


@pytest.mark.parametrize("shape", ["override_host", "original_dst"])
async def test_endpoints_may_be_ipv6(lab, shape):
    (backend,) = await lab.backends(1, host="::1")
    gateway = await lab.gateway(backend, shape=shape)
    status, seen = await lab.complete(gateway)
    assert (status, seen["headers"]["x-gateway-destination-endpoint"]) == (200, backend.target)


async def test_request_ids_of_trusted_clients_stay(lab):
    gateway = await lab.gateway(*await lab.backends(1), trust_request_id=True)
    status, seen = await lab.complete(gateway, x_request_id="mine")
    assert (status, seen["headers"]["x-request-id"]) == (200, "mine")


async def test_without_a_picker_requests_go_round(lab):
    backends = await lab.backends(3)
    gateway = await lab.gateway(*backends, round_robin=True)
    reached = [(await lab.complete(gateway))[1]["who"] for _ in range(6)]
    assert sorted(reached) == sorted([backend.target for backend in backends] * 2)
    assert gateway.picker_pid == 0
