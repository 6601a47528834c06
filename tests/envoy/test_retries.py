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

    async def scraped() -> bool:
        async with lab.client.get(f"{gateway.metrics_url}/debug/state") as answer:
            return sorted(row["waiting"] or 0 for row in (await answer.json())["endpoints"]) == [0, 5]

    await lab.eventually(scraped, "the picker knows that the second one has a queue")
    status, seen = await lab.complete(gateway)
    assert (status, seen["who"]) == (200, second.target)
    assert seen["headers"]["x-gateway-destination-endpoint"] == f"{first.target},{second.target}"
    assert first.served == 1

    async def none() -> bool:
        return await lab.inflight(gateway) == 0

    await lab.eventually(none, "no request in flight at either")


async def test_a_dead_endpoint_costs_a_retry_not_an_answer(lab):
    alive, dead = await lab.backends(2)
    gateway = await lab.gateway(alive, dead, subset_header="x-subset")
    await dead.close()
    status, seen = await lab.complete(gateway, x_subset=dead.target)
    assert (status, seen["who"]) == (200, alive.target)
