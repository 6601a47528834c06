"""Endpoints that only the picker knows, from a file: the destination header is the address."""

from __future__ import annotations

import hashlib
import json

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends(shared_lab):
    return await shared_lab.backends(2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def discovered(shared_lab, backends):
    return await shared_lab.discovering(*backends, subset_header="x-subset")


async def test_requests_reach_the_endpoints_of_the_file(shared_lab, discovered, backends):
    gateway, _ = discovered
    for backend in backends:
        status, seen = await shared_lab.complete(gateway, x_subset=backend.target)
        assert (status, seen["who"]) == (200, backend.target)


async def test_the_header_from_outside_is_not_an_address(shared_lab, discovered, backends):
    gateway, _ = discovered
    spoof = {"x_gateway_destination_endpoint": backends[1].target, "x_envoy_original_dst_host": backends[1].target}
    status, seen = await shared_lab.complete(gateway, x_subset=backends[0].target, **spoof)
    assert (status, seen["who"]) == (200, backends[0].target)


async def test_a_body_of_12_megabytes_arrives_byte_for_byte(shared_lab, discovered):
    body = json.dumps({"model": "m", "prompt": "p" * 12_000_000}).encode()
    status, seen = await shared_lab.complete(discovered[0], body)
    assert (status, seen["sha256"]) == (200, hashlib.sha256(body).hexdigest())


async def test_bad_json_is_400(shared_lab, discovered):
    status, text = await shared_lab.complete(discovered[0], b'{"model": "m", "prompt": ')
    assert status == 400
    assert text.startswith("inference error: BadRequest")


async def test_events_pass_one_by_one(shared_lab, discovered, backends):
    for backend in backends:
        backend.let_go.clear()
    async with shared_lab.stream(discovered[0]) as answer:
        assert '"event": 0' in (await answer.content.readline()).decode()  # while the backend holds the second one back
        for backend in backends:
            backend.let_go.set()
        assert (await answer.text()).endswith("data: [DONE]\n\n")


async def test_a_pod_that_left_the_file_gets_no_more_requests(shared_lab, discovered, backends):
    gateway, endpoints = discovered
    endpoints(backends[0])

    async def only_the_first() -> bool:
        reached = {(await shared_lab.complete(gateway))[1]["who"] for _ in range(8)}
        return reached == {backends[0].target}

    await shared_lab.eventually(only_the_first, "all requests go to the pod that stayed")


async def test_without_any_pod_the_answer_is_503(shared_lab, discovered, backends):
    gateway, endpoints = discovered
    endpoints()

    async def unavailable() -> bool:
        return (await shared_lab.complete(gateway))[0] == 503

    await shared_lab.eventually(unavailable, "503 once all pods are gone")
    endpoints(*backends)

    async def back() -> bool:
        return (await shared_lab.complete(gateway))[0] == 200

    await shared_lab.eventually(back, "200 once pods are there again")
