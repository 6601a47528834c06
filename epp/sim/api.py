"""The HTTP face of one simulated model server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from random import Random
from typing import Any

from aiohttp import web

from epp.clock import Clock
from epp.sim import tokens
from epp.sim.bodies import (
    DONE,
    JSON,
    SSE,
    ApiError,
    Body,
    ChatBody,
    CompletionBody,
    Shape,
    TokenizeBody,
    decode,
    usage,
)
from epp.sim.driver import Driver
from epp.sim.engine import Engine, EngineConfig
from epp.sim.metrics import CONTENT_TYPE, Page
from epp.sim.sequence import Sequence

VERSION = "0.32.0"
"""The vLLM whose behaviour is modelled."""
REQUEST_ID = "x-request-id"
MAX_BODY_BYTES = 64 << 20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ModelServer:
    """One engine behind OpenAI's API: `app` is the aiohttp application, `close` stops the engine's clockwork.

    `adapters` are LoRA names that are served beside `model`. `rng` makes request ids and the seeds of answers, unless
    the prompt fixes these: equal prompts get equal answers from every server.
    """

    def __init__(
        self, config: EngineConfig, model: str, clock: Clock, rng: Random, adapters: tuple[str, ...] = ()
    ) -> None:
        self.engine = Engine(config)
        self.model = model
        self.adapters = adapters
        self._driver = Driver(self.engine, clock)
        self._clock = clock
        self._rng = rng
        self._started = int(clock.wall())
        self._page = Page(self.engine, model, clock, lora=bool(adapters))
        self.app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
        self.app.add_routes(
            [
                web.post("/v1/completions", self._completion),
                web.post("/v1/chat/completions", self._chat),
                web.post("/tokenize", self._tokenize),
                web.post("/reset_prefix_cache", self._reset),
                web.get("/v1/models", self._models),
                web.get("/metrics", self._metrics),
                web.get("/health", self._health),
                web.get("/ping", self._health),
                web.get("/version", self._version),
            ]
        )

    def close(self) -> None:
        """Stops the engine."""
        self._driver.close()

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, decode(await request.read(), CompletionBody))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, decode(await request.read(), ChatBody))

    async def _answer(self, request: web.Request, body: Body) -> web.StreamResponse:
        name = request.headers.get(REQUEST_ID) or f"{self._rng.getrandbits(128):032x}"
        chat = isinstance(body, ChatBody)
        sequence = self._sequence(body, name)
        served = body.model or self.model
        kind = "chatcmpl-" if chat else "cmpl-"
        shape = Shape(chat=chat, id=kind + name, created=int(self._clock.wall()), model=served)
        if body.stream:
            return await self._stream(request, body, sequence, shape, {REQUEST_ID: name})
        async with aclosing(self._driver.run(sequence)) as progress:
            async for _ in progress:
                pass
        text = tokens.answer(sequence.seed, 0, sequence.generated)
        whole = shape.whole(text, sequence.finish, _usage(sequence))
        return web.Response(body=whole, content_type=JSON, headers={REQUEST_ID: name})

    async def _stream(
        self, request: web.Request, body: Body, sequence: Sequence, shape: Shape, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": SSE, **headers})
        await response.prepare(request)  # before the first token, as vLLM does: headers say nothing about TTFT
        told = 0
        async with aclosing(self._driver.run(sequence)) as progress:
            async for generated in progress:
                text = tokens.answer(sequence.seed, told, generated)
                if told == 0:
                    await response.write(shape.first() + shape.piece(text))
                    text = ""
                elif not sequence.finish:
                    await response.write(shape.piece(text))
                told = generated
        end = shape.last(text, sequence.finish)
        if body.stream_options and body.stream_options.include_usage:
            end += shape.usage(_usage(sequence))
        await response.write(end + DONE)
        return response

    def _sequence(self, body: Body, name: str) -> Sequence:
        config = self.engine.config
        self._check(body)
        prompt = body.tokens()
        size = tokens.count(prompt)
        room = config.context - size
        limit = body.limit if body.limit is not None else room
        if size == 0 or limit < 1 or limit > room:
            raise _length_error(config.context, size, body.limit)
        seed = tokens.seed(prompt)
        natural = body.limit is None and not body.ignore_eos
        return Sequence.of_prompt(
            prompt,
            config.block_size,
            id=name,
            max_tokens=limit,
            stop_at=tokens.natural_length(seed) if natural else None,
            seed=seed,
            adapter=body.model if body.model in self.adapters and body.model else "",
            salt=body.cache_salt or "",
        )

    def _check(self, body: Body) -> None:
        if body.model and body.model != self.model and body.model not in self.adapters:
            raise ApiError(404, f"The model `{body.model}` does not exist.", "NotFoundError", "model")
        if body.n != 1:
            raise ApiError(400, "the simulator gives one answer a request: n must be 1", param="n")
        limit = self.engine.config.max_num_queued_reqs
        if limit and len(self.engine.waiting) >= limit:
            self.engine.stats.rejected += 1
            raise ApiError(503, "The engine is currently busy and cannot queue the request.", "Service Unavailable")

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = decode(await request.read(), TokenizeBody)
        data = tokens.encode(body.prompt or "") if body.messages is None else tokens.chat(body.messages)
        ids = tokens.ids(data)
        return web.json_response({"count": len(ids), "max_model_len": self.engine.config.context, "tokens": ids})

    async def _reset(self, request: web.Request) -> web.Response:
        self.engine.pool.forget()
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        cards = [self._card(self.model, None), *(self._card(name, self.model) for name in self.adapters)]
        return web.json_response({"object": "list", "data": cards})

    def _card(self, name: str, parent: str | None) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._started,
            "owned_by": "vllm",
            "root": name,
            "parent": parent,
            "max_model_len": self.engine.config.context if parent is None else None,
            "permission": [],
        }

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page.render(), headers={"content-type": CONTENT_TYPE})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})


def _usage(sequence: Sequence) -> dict[str, Any]:
    return usage(sequence.prompt_tokens, sequence.cached_tokens, sequence.generated)


def _length_error(context: int, prompt: int, limit: int | None) -> ApiError:
    if prompt == 0:
        return ApiError(400, "The prompt is empty.", param="prompt")
    if limit is not None and limit < 1:
        return ApiError(400, f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
    asked = f"{prompt} in the prompt, {limit} in the answer" if limit else f"{prompt} in the prompt"
    message = f"This model's maximum context length is {context} tokens. However, you requested {asked}."
    return ApiError(400, f"{message} Please reduce the length of the prompt or of the answer.")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return web.Response(status=error.status, body=error.body(), content_type=JSON)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        wrong = ApiError(error.status, error.reason, error.reason.replace(" ", ""))
        return web.Response(status=error.status, body=wrong.body(), content_type=JSON)
