"""The OpenAI client and a websocket client through the gateway, with both transports of the picker."""

from __future__ import annotations

import aiohttp
import openai
import pytest
from aiohttp import web


@pytest.mark.parametrize("transport", ["native", "grpcio"])
async def test_the_openai_client_streams_through_the_gateway(lab, transport):
    gateway = await lab.start_gateway(sim_servers=2, transport=transport)
    assert await gateway.fetch_model_name() == "sim"
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["sim"]
        stream = await client.chat.completions.create(
            model="sim",
            messages=[{"role": "user", "content": "Tell me about proxies."}],
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage.completion_tokens == 20
        assert any(chunk.choices and chunk.choices[0].finish_reason == "length" for chunk in chunks)
        whole = await client.completions.create(model="sim", prompt="Once upon a time", max_tokens=5)
        assert whole.usage.completion_tokens == 5
    assert gateway.readiness == {"sim": True, "picker": True, "envoy": True}


async def test_a_websocket_is_proxied_in_both_directions(lab):
    async def echo(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"echo {message.data}")
        return socket

    app = web.Application()
    app.add_routes([web.get("/v1/realtime", echo)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        gateway = await lab.start_gateway(endpoints=(f"127.0.0.1:{runner.addresses[0][1]}",))
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{gateway.url}/v1/realtime") as socket:
            for text in ("one", "two"):
                await socket.send_str(text)
                assert await socket.receive_str(timeout=5) == f"echo {text}"
    finally:
        await runner.cleanup()
