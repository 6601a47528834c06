"""The load generator: failed and incomplete responses."""

from __future__ import annotations

from aiohttp import web

from epp.clock import SystemClock
from epp.sim.fleet import SimFleet
from epp.sim.load import ConversationPlayer
from epp.sim.workload import Conversation


async def test_a_failure_is_recorded_and_ends_the_conversation(fleet: SimFleet) -> None:
    talk = Conversation(0.0, 0, "system", ("one", "two"), (0.0, 0.0))
    (refused,) = await ConversationPlayer(
        f"http://{fleet.targets[0]}/v1", "other", 4, SystemClock()
    ).play_conversations([talk])
    assert refused.error.startswith("HTTP 404: ")
    (lost,) = await ConversationPlayer("http://127.0.0.1:9", "sim-8b", 4, SystemClock()).play_conversations([talk])
    assert lost.error.startswith("ClientConnectorError: ")


async def test_a_response_that_is_cut_off_is_a_failure() -> None:
    async def cut(request: web.Request) -> web.Response:
        return web.Response(body=b'data: {"choices":[{"delta":{"content":"abcd"}}]}\n\n')

    app = web.Application()
    app.router.add_post("/v1/chat/completions", cut)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = "http://{}:{}".format(*runner.addresses[0][:2])
        talk = Conversation(0.0, 0, "system", ("one",), (0.0,))
        (timing,) = await ConversationPlayer(url, "sim-8b", 4, SystemClock()).play_conversations([talk])
        assert (timing.error, timing.text) == ("the response was cut off", "abcd")
    finally:
        await runner.cleanup()
