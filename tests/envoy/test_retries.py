"""Model servers that fail: the picker's list is walked, and the one that answered is known."""

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
async def test_a_second_choice_answers_when_the_first_fails(lab, completion):
    first, second = await lab.backends(2)
    first.status = 503
    second.waiting = 5
    gateway = await lab.gateway(first, second, completion=completion, config_text=TWO_BY_QUEUE)

    await _queue_known(lab, gateway, second)
    status, seen = await lab.complete(gateway)
    assert (status, seen["who"]) == (200, second.target)
    assert seen["headers"]["x-gateway-destination-endpoint"] == f"{first.target},{second.target}"
    assert first.served == 1

    async def none() -> bool:
        return await lab.inflight(gateway) == 0

    await lab.eventually(none, "no request in flight at either")


async def test_a_request_counts_where_it_is_served(lab):
    first, second = await lab.backends(2)
    first.status = 503
    second.waiting = 5
    gateway = await lab.gateway(first, second, completion="extproc", config_text=TWO_BY_QUEUE)
    await _queue_known(lab, gateway, second)
    second.let_go.clear()
    async with lab.stream(gateway) as answer:
        await answer.content.readline()
        assert await lab.column(gateway, "inflight_requests") == {first.target: 0, second.target: 1}
        second.let_go.set()
        assert (await answer.text()).endswith("data: [DONE]\n\n")


async def test_a_dead_endpoint_costs_a_retry_not_an_answer(lab):
    alive, dead = await lab.backends(2)
    gateway = await lab.gateway(alive, dead, subset_header="x-subset")
    await dead.close()
    status, seen = await lab.complete(gateway, x_subset=dead.target)
    assert (status, seen["who"]) == (200, alive.target)


async def _queue_known(lab, gateway, busy):
    async def scraped() -> bool:
        return (await lab.column(gateway, "waiting"))[busy.target] == 5

    await lab.eventually(scraped, "the picker knows that one has a queue")
