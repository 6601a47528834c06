"""Client of the OpenAI API behind a gateway: models, token counts, streamed completions. Raises AttemptFailed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import openai
from openai.types.chat import ChatCompletionChunk

from epp.clock import Clock
from epp.headers import REQUEST_DROPPED_REASON, REQUEST_ID
from epp_batch.errors import BatchError, InputError
from epp_batch.summaries import retry
from epp_batch.summaries.settings import SummarySettings

CONNECT_SECONDS = 10.0
SMALL_REQUEST_SECONDS = 30.0
"""Timeout of the model list and of token counts."""


class AttemptFailed(BatchError):
    """One attempt has brought no answer, or an incomplete one."""

    def __init__(self, failure: retry.AttemptFailure) -> None:
        self.failure = failure
        super().__init__(str(failure))


class ChatAnswer(msgspec.Struct, kw_only=True):
    """A complete chat completion. `first_token_at` is on the monotonic clock, in seconds."""

    url: str
    """Base URL of the gateway that answered."""
    model: str
    text: str = ""
    finish_reason: str = ""
    request_id: str = ""
    first_token_at: float = 0.0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


class ServedModel(msgspec.Struct, frozen=True):
    """One served model; `context_tokens` is its context length, None if unknown."""

    name: str
    context_tokens: int | None = None


class GatewayClient:
    """Sends requests to the first of `urls`, until `reconnect` moves on to the next."""

    def __init__(self, urls: Sequence[str], api_key: str | None, settings: SummarySettings, clock: Clock) -> None:
        self._urls = [normalize_base_url(url) for url in urls]
        self._api_key = api_key or "none"  # the openai library requires one; vLLM ignores it
        self._settings = settings
        self._clock = clock
        self.connection_generation = 0
        """Number of reconnects so far."""
        self._connection: openai.AsyncOpenAI | None = None
        self._connections: list[openai.AsyncOpenAI] = []

    @property
    def url(self) -> str:
        """Base URL of the next request."""
        return self._urls[self.connection_generation % len(self._urls)]

    async def close(self) -> None:
        """Closes all connections."""
        for api in self._connections:
            await api.close()

    def reconnect(self, generation: int) -> None:
        """Makes the next requests use new connections, to the next URL if there are several.

        `generation` is the connection generation of the failed request: requests that fail together reconnect once.
        """
        if generation == self.connection_generation:
            self.connection_generation += 1
            self._connection = None

    async def list_models(self) -> list[ServedModel]:
        """The served models (GET /models); raises AttemptFailed."""
        try:
            page: Any = await self._get_connection().get(
                "/models", cast_to=object, options={"timeout": SMALL_REQUEST_SECONDS}
            )
        except (openai.OpenAIError, ValueError) as error:
            raise self._build_attempt_failed(error) from error
        cards = page.get("data") if isinstance(page, dict) else None
        if not isinstance(cards, list):
            raise AttemptFailed(self._build_no_api_failure())
        named = {str(card["id"]): card for card in cards if isinstance(card, dict) and "id" in card}
        contexts = {name: _as_positive_integer(card.get("max_model_len")) for name, card in named.items()}
        # vLLM lists LoRA adapters without a length of their own; that of the parent model applies.
        return [
            ServedModel(name, contexts[name] or contexts.get(str(card.get("parent")))) for name, card in named.items()
        ]

    async def count_tokens(self, prompt: str, model: str) -> int | None:
        """Tokens of the prompt under the chat template, by vLLM's /tokenize; None if the server does not have it."""
        root = self.url.removesuffix("/v1")
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        try:
            api = self._get_connection()
            answer: Any = await api.post(
                f"{root}/tokenize", cast_to=object, body=body, options={"timeout": SMALL_REQUEST_SECONDS}
            )
        except (openai.OpenAIError, ValueError):
            return None
        return _as_positive_integer(answer.get("count")) if isinstance(answer, dict) else None

    async def stream_completion(self, prompt: str, model: str, on_first_token: Callable[[], None]) -> ChatAnswer:
        """Requests one completion as a stream; raises AttemptFailed, also for an incomplete or empty answer."""
        answer = ChatAnswer(url=self.url, model=model)
        parts: list[str] = []
        try:
            stream = await self._create_stream(prompt, model)
            async with stream:
                headers = stream.response.headers
                answer.request_id = headers.get(REQUEST_ID, "")
                if not headers.get("content-type", "").startswith("text/event-stream"):
                    raise AttemptFailed(self._build_no_api_failure())
                async for chunk in stream:
                    if _apply_chunk(chunk, answer, parts) and not answer.first_token_at:
                        answer.first_token_at = self._clock.now()
                        on_first_token()
        except (openai.OpenAIError, ValueError) as error:
            raise self._build_attempt_failed(error) from error
        answer.text = _strip_reasoning("".join(parts))
        if not answer.finish_reason:
            raise AttemptFailed(retry.AttemptFailure(message="the answer was cut off"))
        if not answer.text:
            message = f"the answer is empty (finish_reason {answer.finish_reason})"
            raise AttemptFailed(retry.AttemptFailure(message=message, permanent=True))
        return answer

    async def _create_stream(self, prompt: str, model: str) -> openai.AsyncStream[ChatCompletionChunk]:
        settings = self._settings
        return await self._get_connection().chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=settings.max_tokens,
            temperature=openai.omit if settings.temperature is None else settings.temperature,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=settings.extra or None,
        )

    def _get_connection(self) -> openai.AsyncOpenAI:
        if self._connection is None:
            timeout = openai.Timeout(self._settings.silence_seconds, connect=CONNECT_SECONDS)
            self._connection = openai.AsyncOpenAI(
                base_url=self.url,
                api_key=self._api_key,
                default_headers=self._settings.headers,
                timeout=timeout,
                max_retries=0,  # the openai library would retry without regard to the dropped reason
            )
            self._connections.append(self._connection)
        return self._connection

    def _build_no_api_failure(self) -> retry.AttemptFailure:
        return retry.AttemptFailure(message=f"{self.url} does not answer as an OpenAI API does", permanent=True)

    def _build_attempt_failed(self, error: Exception) -> AttemptFailed:
        if isinstance(error, openai.APIStatusError):
            headers = error.response.headers
            return AttemptFailed(
                retry.AttemptFailure(
                    status=error.status_code,
                    reason=headers.get(REQUEST_DROPPED_REASON, ""),
                    retry_after=retry.parse_retry_after(headers, self._clock.wall()),
                    message=_extract_error_message(error),
                )
            )
        text = f"{error}: {error.__cause__}" if error.__cause__ is not None and str(error.__cause__) else str(error)
        return AttemptFailed(retry.AttemptFailure(message=f"{text} ({self.url})"))


def normalize_base_url(url: str) -> str:
    """The API's base URL of a gateway's address: adds `/v1` if it has no path. Raises InputError if it is not a URL."""
    url = url.rstrip("/")
    if not re.match(r"https?://[^/]", url):
        raise InputError(f"invalid gateway address {url!r}", remedy="write http://HOST:PORT/v1")
    return url if url.count("/") > 2 else f"{url}/v1"


def _apply_chunk(chunk: ChatCompletionChunk, answer: ChatAnswer, parts: list[str]) -> bool:
    """Applies one chunk to the answer; returns whether it carried a token of the answer or of reasoning."""
    answer.model = chunk.model or answer.model
    # vLLM returns no x-request-id header, but derives the completion's id from it.
    answer.request_id = answer.request_id or chunk.id.removeprefix("chatcmpl-")
    if chunk.usage is not None:
        answer.prompt_tokens = chunk.usage.prompt_tokens
        answer.completion_tokens = chunk.usage.completion_tokens
        details = chunk.usage.prompt_tokens_details
        answer.cached_tokens = details.cached_tokens if details else None
    if not chunk.choices:
        return False
    choice = chunk.choices[0]
    answer.finish_reason = choice.finish_reason or answer.finish_reason
    if choice.delta.content:
        parts.append(choice.delta.content)
    reasoning = getattr(choice.delta, "reasoning_content", None) or getattr(choice.delta, "reasoning", None)
    return bool(choice.delta.content or reasoning)


def _strip_reasoning(text: str) -> str:
    """The text without a leading `<think>` block, which servers without a reasoning parser leave in the content."""
    if text.lstrip().startswith("<think>"):
        text = text.partition("</think>")[2]
    return text.strip()


def _extract_error_message(error: openai.APIStatusError) -> str:
    """The server's message: from OpenAI's error object, or the first line of a plain body."""
    body = error.body
    if isinstance(body, dict) and isinstance(message := body.get("message"), str):
        return message
    lines = str(body or error.response.reason_phrase).strip().splitlines()
    return lines[0][:300] if lines else ""


def _as_positive_integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
