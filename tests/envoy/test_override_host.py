"""Pool with override_host: Envoy knows the endpoints, the picker chooses one by metadata."""

from __future__ import annotations

import hashlib
import json

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends(shared_lab):
    return await shared_lab.start_backends(3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(shared_lab, backends):
    return await shared_lab.start_gateway(*backends, subset_header="x-subset")


async def test_a_request_reaches_the_chosen_endpoint(shared_lab, gateway, backends):
    status, seen = await shared_lab.post_completion(gateway)
    assert status == 200
    assert seen["headers"]["x-gateway-destination-endpoint"] == seen["who"]
    assert seen["who"] in {backend.target for backend in backends}


async def test_a_subset_hint_of_one_endpoint_determines_the_choice(shared_lab, gateway, backends):
    for backend in backends:
        status, seen = await shared_lab.post_completion(gateway, x_subset=backend.target)
        assert (status, seen["who"]) == (200, backend.target)
        assert "x-subset" not in seen["headers"]


async def test_a_subset_hint_may_be_a_comma_separated_list(shared_lab, gateway, backends):
    two = {backend.target for backend in backends[:2]}
    reached = {(await shared_lab.post_completion(gateway, x_subset=", ".join(two)))[1]["who"] for _ in range(12)}
    assert reached <= two


async def test_a_subset_hint_without_a_known_endpoint_is_503(shared_lab, gateway):
    async with shared_lab.client.post(
        f"{gateway.url}/v1/completions", data=b'{"model": "m", "prompt": "p"}', headers={"x-subset": "10.1.1.1:1"}
    ) as response:
        assert response.status == 503
        assert response.headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"


async def test_destination_headers_of_clients_are_ignored(shared_lab, gateway, backends):
    chosen, spoofed = backends[0].target, backends[1].target
    names = ("x_gateway_destination_endpoint", "x_gateway_destination_endpoint_served", "x_prefiller_host_port")
    spoof = dict.fromkeys((*names, "x_gateway_destination_endpoint_subset"), spoofed)
    status, seen = await shared_lab.post_completion(gateway, x_subset=chosen, **spoof)
    assert (status, seen["who"]) == (200, chosen)
    assert spoofed not in seen["headers"].values()


async def test_a_body_of_12_megabytes_arrives_byte_for_byte(shared_lab, gateway):
    body = json.dumps({"model": "m", "prompt": "été " * 2_500_000}).encode()
    assert len(body) > 12_000_000
    status, seen = await shared_lab.post_completion(gateway, body)
    assert (status, seen["bytes"], seen["sha256"]) == (200, len(body), hashlib.sha256(body).hexdigest())


async def test_events_are_forwarded_one_by_one(shared_lab, gateway, backends):
    for backend in backends:
        backend.may_continue.clear()
    async with shared_lab.stream_completion(gateway) as response:
        first = json.loads((await response.content.readline()).removeprefix(b"data: "))
        assert first["event"] == 0  # the backend has not sent the second one yet
        for backend in backends:
            backend.may_continue.set()
        rest = (await response.content.read()).decode()
    assert '"event": 2' in rest
    assert rest.endswith("data: [DONE]\n\n")


async def test_invalid_json_is_400(shared_lab, gateway):
    status, text = await shared_lab.post_completion(gateway, b'{"model": "m", "prompt": ')
    assert status == 400
    assert text.startswith("inference error: BadRequest")


async def test_a_request_without_body_is_routed_too(shared_lab, gateway):
    async with shared_lab.client.get(f"{gateway.url}/v1/models") as response:
        seen = await response.json()
    assert (response.status, seen["method"], seen["path"]) == (200, "GET", "/v1/models")
    assert seen["headers"]["x-gateway-destination-endpoint"] == seen["who"]


async def test_request_ids_of_clients_are_replaced(shared_lab, gateway):
    seen = [
        (await shared_lab.post_completion(gateway, x_request_id="same"))[1]["headers"]["x-request-id"] for _ in range(2)
    ]
    assert len({*seen, "same"}) == 3


async def test_completed_requests_are_not_in_flight(shared_lab, gateway):
    for _ in range(20):
        assert (await shared_lab.post_completion(gateway))[0] == 200

    async def idle() -> bool:
        return await shared_lab.count_inflight(gateway) == 0

    await shared_lab.wait_until(idle, "no request in flight")


async def test_a_disconnected_client_is_not_in_flight(shared_lab, gateway, backends):
    for backend in backends:
        backend.may_continue.clear()
    async with shared_lab.stream_completion(gateway) as response:
        await response.content.readline()
        assert await shared_lab.count_inflight(gateway) == 1
        response.close()

    async def idle() -> bool:
        return await shared_lab.count_inflight(gateway) == 0

    await shared_lab.wait_until(idle, "no request in flight after the client disconnected")
    for backend in backends:
        backend.may_continue.set()
