"""Failing model servers: Envoy tries the picker's endpoints in order, and the picker learns which one responded."""

from __future__ import annotations

import pytest

TWO_BY_QUEUE = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: max-score-picker
  parameters: {maxNumOfEndpoints: 2}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer}, {pluginRef: max-score-picker}]
"""


@pytest.mark.parametrize("completion", ["extproc", "access-log"])
async def test_the_second_choice_is_tried_when_the_first_fails(lab, completion):
    first, second = await lab.start_backends(2)
    first.status = 503
    second.waiting = 5
    gateway = await lab.start_gateway(first, second, completion=completion, config_text=TWO_BY_QUEUE)

    await _wait_for_scrape(lab, gateway, second)
    status, seen = await lab.post_completion(gateway)
    assert (status, seen["who"]) == (200, second.target)
    assert seen["headers"]["x-gateway-destination-endpoint"] == f"{first.target},{second.target}"
    assert first.served == 1

    async def idle() -> bool:
        return await lab.count_inflight(gateway) == 0

    await lab.wait_until(idle, "no request in flight")


async def test_a_request_is_in_flight_at_the_endpoint_that_serves_it(lab):
    first, second = await lab.start_backends(2)
    first.status = 503
    second.waiting = 5
    gateway = await lab.start_gateway(first, second, completion="extproc", config_text=TWO_BY_QUEUE)
    await _wait_for_scrape(lab, gateway, second)
    second.may_continue.clear()
    async with lab.stream_completion(gateway) as response:
        await response.content.readline()
        assert await lab.read_column(gateway, "inflight_requests") == {first.target: 0, second.target: 1}
        second.may_continue.set()
        assert (await response.text()).endswith("data: [DONE]\n\n")


async def test_a_request_to_a_dead_endpoint_is_retried(lab):
    alive, dead = await lab.start_backends(2)
    gateway = await lab.start_gateway(alive, dead, subset_header="x-subset")
    await dead.close()
    status, seen = await lab.post_completion(gateway, x_subset=dead.target)
    assert (status, seen["who"]) == (200, alive.target)


async def _wait_for_scrape(lab, gateway, busy):
    async def scraped() -> bool:
        return (await lab.read_column(gateway, "waiting"))[busy.target] == 5

    await lab.wait_until(scraped, "the picker has scraped the queue")
