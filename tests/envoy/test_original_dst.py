"""Pool of type ORIGINAL_DST: only the picker knows the endpoints, Envoy connects to the destination header."""

from __future__ import annotations

import hashlib
import json

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends(shared_lab):
    return await shared_lab.start_backends(2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def discovered(shared_lab, backends):
    return await shared_lab.start_discovering_gateway(*backends, subset_header="x-subset")


async def test_requests_reach_the_discovered_endpoints(shared_lab, discovered, backends):
    gateway, _ = discovered
    for backend in backends:
        status, seen = await shared_lab.post_completion(gateway, x_subset=backend.target)
        assert (status, seen["who"]) == (200, backend.target)


async def test_destination_headers_of_clients_are_ignored(shared_lab, discovered, backends):
    gateway, _ = discovered
    spoof = {"x_gateway_destination_endpoint": backends[1].target, "x_envoy_original_dst_host": backends[1].target}
    status, seen = await shared_lab.post_completion(gateway, x_subset=backends[0].target, **spoof)
    assert (status, seen["who"]) == (200, backends[0].target)


async def test_a_body_of_12_megabytes_arrives_byte_for_byte(shared_lab, discovered):
    body = json.dumps({"model": "m", "prompt": "p" * 12_000_000}).encode()
    status, seen = await shared_lab.post_completion(discovered[0], body)
    assert (status, seen["sha256"]) == (200, hashlib.sha256(body).hexdigest())


async def test_invalid_json_is_400(shared_lab, discovered):
    status, text = await shared_lab.post_completion(discovered[0], b'{"model": "m", "prompt": ')
    assert status == 400
    assert text.startswith("inference error: BadRequest")


async def test_events_are_forwarded_one_by_one(shared_lab, discovered, backends):
    for backend in backends:
        backend.may_continue.clear()
    async with shared_lab.stream_completion(discovered[0]) as response:
        assert (
            '"event": 0' in (await response.content.readline()).decode()
        )  # the backend has not sent the second one yet
        for backend in backends:
            backend.may_continue.set()
        assert (await response.text()).endswith("data: [DONE]\n\n")


async def test_a_removed_endpoint_gets_no_more_requests(shared_lab, discovered, backends):
    gateway, write_endpoints = discovered
    write_endpoints(backends[0])

    async def only_first_endpoint() -> bool:
        reached = {(await shared_lab.post_completion(gateway))[1]["who"] for _ in range(8)}
        return reached == {backends[0].target}

    await shared_lab.wait_until(only_first_endpoint, "all requests go to the remaining endpoint")


async def test_without_endpoints_the_response_is_503(shared_lab, discovered, backends):
    gateway, write_endpoints = discovered
    write_endpoints()

    async def unavailable() -> bool:
        return (await shared_lab.post_completion(gateway))[0] == 503

    await shared_lab.wait_until(unavailable, "503 without endpoints")
    write_endpoints(*backends)

    async def available() -> bool:
        return (await shared_lab.post_completion(gateway))[0] == 200

    await shared_lab.wait_until(available, "200 with endpoints again")
