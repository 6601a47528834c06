"""The HTTP API of one simulated model server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from random import Random
from typing import Any

from aiohttp import web

from epp.clock import Clock
from epp.headers import REQUEST_ID
from epp.sim import tokens
from epp.sim.driver import EngineDriver
from epp.sim.engine import SimEngine, SimEngineConfig
from epp.sim.metrics import CONTENT_TYPE, VllmMetricsPage
from epp.sim.openai_api import (
    JSON_CONTENT_TYPE,
    SSE_CONTENT_TYPE,
    SSE_DONE,
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    OpenAIError,
    ResponseEncoder,
    TokenizeRequest,
    build_usage,
    decode_body,
)
from epp.sim.request import SimRequest

VLLM_VERSION = "0.32.0"
"""The vLLM version that is simulated."""
MAX_BODY_BYTES = 64 << 20

AiohttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ModelServer:
    """One engine behind OpenAI's API. `app` is the aiohttp application; `close` stops the engine.

    `adapters` are the names of LoRA adapters served besides `model`. `rng` generates request ids. Equal prompts get
    equal answers from every server.
    """

    def __init__(
        self, config: SimEngineConfig, model: str, clock: Clock, rng: Random, adapters: tuple[str, ...] = ()
    ) -> None:
        self.engine = SimEngine(config)
        self.model = model
        self.adapters = adapters
        self._driver = EngineDriver(self.engine, clock)
        self._clock = clock
        self._rng = rng
        self._started_at = int(clock.wall())
        self._metrics_page = VllmMetricsPage(self.engine, model, clock, lora=bool(adapters))
        self.app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_error_middleware])
        self.app.add_routes(
            [
                web.post("/v1/completions", self._handle_completion),
                web.post("/v1/chat/completions", self._handle_chat_completion),
                web.post("/tokenize", self._handle_tokenize),
                web.post("/reset_prefix_cache", self._handle_reset_prefix_cache),
                web.get("/v1/models", self._handle_models),
                web.get("/metrics", self._handle_metrics),
                web.get("/health", self._handle_health),
                web.get("/ping", self._handle_health),
                web.get("/version", self._handle_version),
            ]
        )

    def close(self) -> None:
        """Stops the engine."""
        self._driver.close()

    async def _handle_completion(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, decode_body(await request.read(), CompletionRequest))

    async def _handle_chat_completion(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, decode_body(await request.read(), ChatCompletionRequest))

    async def _generate(self, request: web.Request, body: GenerationRequest) -> web.StreamResponse:
        request_id = request.headers.get(REQUEST_ID) or f"{self._rng.getrandbits(128):032x}"
        chat = isinstance(body, ChatCompletionRequest)
        sim_request = self._create_request(body, request_id)
        encoder = ResponseEncoder(
            chat=chat,
            id=("chatcmpl-" if chat else "cmpl-") + request_id,
            created=int(self._clock.wall()),
            model=body.model or self.model,
        )
        if body.stream:
            return await self._stream_response(request, body, sim_request, encoder, {REQUEST_ID: request_id})
        async with aclosing(self._driver.generate(sim_request)) as progress:
            async for _ in progress:
                pass
        text = tokens.answer_text(sim_request.seed, 0, sim_request.output_tokens)
        encoded = encoder.encode_response(text, sim_request.finish_reason, _build_usage(sim_request))
        return web.Response(body=encoded, content_type=JSON_CONTENT_TYPE, headers={REQUEST_ID: request_id})

    async def _stream_response(
        self,
        request: web.Request,
        body: GenerationRequest,
        sim_request: SimRequest,
        encoder: ResponseEncoder,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": SSE_CONTENT_TYPE, **headers})
        await response.prepare(request)  # as vLLM: before the first token
        sent = 0
        async with aclosing(self._driver.generate(sim_request)) as progress:
            async for generated in progress:
                text = tokens.answer_text(sim_request.seed, sent, generated)
                if sent == 0:
                    await response.write(encoder.encode_first_chunk() + encoder.encode_chunk(text))
                    text = ""
                elif not sim_request.finish_reason:
                    await response.write(encoder.encode_chunk(text))
                sent = generated
        end = encoder.encode_last_chunk(text, sim_request.finish_reason)
        if body.stream_options and body.stream_options.include_usage:
            end += encoder.encode_usage_chunk(_build_usage(sim_request))
        await response.write(end + SSE_DONE)
        return response

    def _create_request(self, body: GenerationRequest, request_id: str) -> SimRequest:
        config = self.engine.config
        self._validate_request(body)
        prompt = body.encode_prompt()
        size = tokens.count_tokens(prompt)
        room = config.context_tokens - size
        limit = body.output_limit if body.output_limit is not None else room
        if size == 0 or limit < 1 or limit > room:
            raise _context_length_error(config.context_tokens, size, body.output_limit)
        seed = tokens.answer_seed(prompt)
        stops_by_itself = body.output_limit is None and not body.ignore_eos
        return SimRequest.from_prompt(
            prompt,
            config.block_size,
            request_id=request_id,
            max_tokens=limit,
            stop_length=tokens.natural_answer_length(seed) if stops_by_itself else None,
            seed=seed,
            lora_name=body.model if body.model in self.adapters and body.model else "",
            cache_salt=body.cache_salt or "",
        )

    def _validate_request(self, body: GenerationRequest) -> None:
        if body.model and body.model != self.model and body.model not in self.adapters:
            raise OpenAIError(404, f"The model `{body.model}` does not exist.", "NotFoundError", "model")
        if body.n != 1:
            raise OpenAIError(400, "the simulator returns one choice for each request: n must be 1", param="n")
        limit = self.engine.config.max_num_queued_reqs
        if limit and len(self.engine.waiting) >= limit:
            self.engine.stats.admission_rejections += 1
            raise OpenAIError(503, "The engine is currently busy and cannot queue the request.", "Service Unavailable")

    async def _handle_tokenize(self, request: web.Request) -> web.Response:
        body = decode_body(await request.read(), TokenizeRequest)
        data = tokens.encode_text(body.prompt or "") if body.messages is None else tokens.encode_chat(body.messages)
        ids = tokens.unpack_token_ids(data)
        return web.json_response({"count": len(ids), "max_model_len": self.engine.config.context_tokens, "tokens": ids})

    async def _handle_reset_prefix_cache(self, request: web.Request) -> web.Response:
        self.engine.block_pool.reset_prefix_cache()
        return web.Response()

    async def _handle_models(self, request: web.Request) -> web.Response:
        cards = [self._model_card(self.model, None), *(self._model_card(name, self.model) for name in self.adapters)]
        return web.json_response({"object": "list", "data": cards})

    def _model_card(self, name: str, parent: str | None) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._started_at,
            "owned_by": "vllm",
            "root": name,
            "parent": parent,
            "max_model_len": self.engine.config.context_tokens if parent is None else None,
            "permission": [],
        }

    async def _handle_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics_page.render(), headers={"content-type": CONTENT_TYPE})

    async def _handle_health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _handle_version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": VLLM_VERSION})


def _build_usage(sim_request: SimRequest) -> dict[str, Any]:
    return build_usage(sim_request.prompt_tokens, sim_request.cached_tokens, sim_request.output_tokens)


def _context_length_error(context: int, prompt: int, limit: int | None) -> OpenAIError:
    if prompt == 0:
        return OpenAIError(400, "The prompt is empty.", param="prompt")
    if limit is not None and limit < 1:
        return OpenAIError(400, f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
    asked = f"{prompt} in the prompt, {limit} in the answer" if limit else f"{prompt} in the prompt"
    message = f"This model's maximum context length is {context} tokens. However, you requested {asked}."
    return OpenAIError(400, f"{message} Please reduce the length of the prompt or of the answer.")


@web.middleware
async def _error_middleware(request: web.Request, handler: AiohttpHandler) -> web.StreamResponse:
    try:
        return await handler(request)
    except OpenAIError as error:
        return web.Response(status=error.status, body=error.encode(), content_type=JSON_CONTENT_TYPE)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        translated = OpenAIError(error.status, error.reason, error.reason.replace(" ", ""))
        return web.Response(status=error.status, body=translated.encode(), content_type=JSON_CONTENT_TYPE)
