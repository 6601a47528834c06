"""Makes the summary of one transcript: resolves the model, fits the prompt, retries until there is an answer."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Literal, TypeVar

import msgspec

from epp.clock import Clock
from epp_batch.summaries import retry
from epp_batch.summaries.client import AttemptFailed, ChatAnswer, GatewayClient, ServedModel
from epp_batch.summaries.prompt import SummaryPrompt, estimate_tokens, fit_prompt
from epp_batch.summaries.settings import SummarySettings, name_flag
from epp_batch.summaries.summary import Summary, SummaryError

T = TypeVar("T")
AttemptEvent = Literal["summarizing", "first-token", "refused"]
OnAttemptEvent = Callable[[AttemptEvent, str], None]
"""Called for each attempt: when it is sent, at its first token, or when it fails and will be retried (with detail)."""
Sleep = Callable[[float], Awaitable[None]]

# vLLM: "This model's maximum context length is 2048 tokens."
# llama.cpp: "request (3000 tokens) exceeds the available context size (2048 tokens), try increasing it"
_CONTEXT_LENGTH = re.compile(r"(?:context length is|context size[^0-9]{0,20})\D*(\d+)")
_MAX_SHRINKS = 6
_SHRINK_FACTOR = 0.8
"""Tokens of the next, shorter prompt per token of the rejected one, which may be an underestimate."""
API_KEY_REMEDY = "give the gateway's key in OPENAI_API_KEY"
_SHORTER_PROMPT_REMEDY = f"give a smaller {name_flag('max-prompt-tokens')}"
_REMEDIES = {
    401: API_KEY_REMEDY,
    403: API_KEY_REMEDY,
    400: "see the server's message",
    404: "name a model that the gateway serves",
    413: _SHORTER_PROMPT_REMEDY,
}
_RETRY_LATER_REMEDY = (
    "check that the gateway has endpoints, then run `epp-batch summarize`; existing summaries are kept"
)


class RequestAttempts(msgspec.Struct):
    """The attempts at one request."""

    started_at: float
    """Monotonic seconds."""
    count: int = 0
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    sent_at: float = 0.0
    """When the last attempt was sent, in monotonic seconds."""


class SummaryRequester:
    """Requests summaries over one client; keeps the model and its context length once they are known."""

    def __init__(
        self, client: GatewayClient, model: str, settings: SummarySettings, clock: Clock, rng: Random, sleep: Sleep
    ) -> None:
        self._client, self._settings, self._clock, self._rng = client, settings, clock, rng
        self._sleep = sleep
        self._model = ServedModel(model)
        self._served: list[str] = []
        self._model_resolved = False
        self._resolve_lock = asyncio.Lock()
        self._outage = retry.OutageTimer(settings.patience_seconds)

    async def discover_model(self) -> str:
        """Looks up the model in the gateway's list; returns a warning if it is missing. Raises AttemptFailed."""
        models = await self._client.list_models()
        self._served = [model.name for model in models]
        self._model_resolved = True
        name = self._model.name or next(iter(self._served), "")
        self._model = next((model for model in models if model.name == name), ServedModel(name))
        if name in self._served:
            return ""
        # Not an error: a gateway may rewrite model names.
        return f"model {name!r} is not among those served: {', '.join(self._served) or 'none'}"

    async def resolve_model(self, source: str, on_event: OnAttemptEvent) -> ServedModel:
        """The model to request, looked up once; raises SummaryError if neither the user nor the gateway names one."""
        async with self._resolve_lock:
            if not self._model_resolved:
                try:
                    await self._retry(source, RequestAttempts(self._clock.now()), self.discover_model, on_event)
                except AttemptFailed as failed:
                    if failed.failure.status in (401, 403):
                        raise self._build_permanent_error(source, failed.failure) from failed
                    self._model_resolved = True  # a server without a model list may still serve the named model
        if not self._model.name:
            raise SummaryError(source, f"{self._client.url} lists no model", f"name one with {name_flag('model')}")
        return self._model

    async def request_summary(
        self, source: str, transcript: str, key: str, on_event: OnAttemptEvent
    ) -> tuple[str, Summary]:
        """Requests the summary of one transcript: its text and metadata. Raises SummaryError."""
        started, attempts = self._clock.wall(), RequestAttempts(self._clock.now())
        prompt, answer = await self._request_with_shrinking(source, transcript, attempts, on_event)
        settings, end = self._settings, self._clock.now()
        summary = Summary(
            key=key,
            source=source,
            url=answer.url,
            model=self._model.name,
            served_model=answer.model,
            template=settings.template,
            max_tokens=settings.max_tokens,
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=answer.cached_tokens,
            completion_tokens=answer.completion_tokens,
            trim=prompt.trim,
            ttft=answer.first_token_at - attempts.sent_at,
            total=end - attempts.sent_at,
            waited=attempts.sent_at - attempts.started_at,
            attempts=attempts.count,
            refusals=dict(attempts.failures),
            finish_reason=answer.finish_reason,
            request_id=answer.request_id,
            started=started,
            finished=self._clock.wall(),
        )
        return answer.text, summary

    async def _request_with_shrinking(
        self, source: str, transcript: str, attempts: RequestAttempts, on_event: OnAttemptEvent
    ) -> tuple[SummaryPrompt, ChatAnswer]:
        """Sends the prompt, and shorter ones while the server rejects it as longer than the context (HTTP 400)."""
        budget = self._prompt_budget(source)
        for _ in range(_MAX_SHRINKS):
            prompt = await fit_prompt(transcript, self._settings, budget, self._count_tokens)

            async def send(text: str = prompt.text) -> ChatAnswer:
                on_event("summarizing", "")
                return await self._client.stream_completion(text, self._model.name, lambda: on_event("first-token", ""))

            try:
                return prompt, await self._retry(source, attempts, send, on_event)
            except AttemptFailed as failed:
                context = _CONTEXT_LENGTH.search(failed.failure.message) if failed.failure.status == 400 else None
                if context is None:
                    raise self._build_permanent_error(source, failed.failure) from failed
                if self._model.context_tokens is None:
                    self._model = ServedModel(self._model.name, int(context[1]))
                sent = prompt.trim.to_tokens if prompt.trim else estimate_tokens(prompt.text)
                budget = min(self._prompt_budget(source) or sent, int(sent * _SHRINK_FACTOR))
        raise SummaryError(source, "no part of the transcript was short enough", _SHORTER_PROMPT_REMEDY)

    async def _retry(
        self, source: str, attempts: RequestAttempts, send: Callable[[], Awaitable[T]], on_event: OnAttemptEvent
    ) -> T:
        """Calls `send` until it succeeds.

        Raises AttemptFailed if it fails permanently, SummaryError when the patience is exhausted.
        """
        repeats, last = 0, None
        while True:
            generation, attempts.sent_at = self._client.connection_generation, self._clock.now()
            attempts.count += 1
            try:
                answer = await send()
            except AttemptFailed as failed:
                failure = failed.failure
                attempts.failures[failure.label] += 1
                if not failure.is_retryable:
                    raise
            else:
                self._outage.record_answer()
                return answer
            repeats = repeats + 1 if failure.label == last else 0
            last = failure.label
            delay = retry.compute_retry_delay(failure, repeats, self._rng)
            now = self._clock.now()
            spent = max(now - attempts.started_at, self._outage.record_failure(now))
            if spent + delay.seconds > self._settings.patience_seconds:
                raise SummaryError(source, f"no answer in {spent:.0f} s; the last was: {failure}", _RETRY_LATER_REMEDY)
            on_event("refused", f"{failure}; next attempt in {delay.seconds:.1f} s")
            if delay.reconnect:
                self._client.reconnect(generation)
            await self._sleep(delay.seconds)

    async def _count_tokens(self, prompt: str) -> int | None:
        return await self._client.count_tokens(prompt, self._model.name)

    def _prompt_budget(self, source: str) -> int | None:
        """Limit of a prompt in tokens; None without a limit. Raises SummaryError if the context leaves no room."""
        limit, context = self._settings.max_prompt_tokens, self._model.context_tokens
        if context is None:
            return limit
        room = context - self._settings.max_tokens
        if room < 1:
            message = f"answers of {self._settings.max_tokens} tokens leave no room in a context of {context}"
            raise SummaryError(source, message, f"give a smaller {name_flag('max-tokens')}")
        return room if limit is None else min(limit, room)

    def _build_permanent_error(self, source: str, failure: retry.AttemptFailure) -> SummaryError:
        remedy = _REMEDIES.get(failure.status, "change the request: the same one would fail again")
        if failure.status == 404 and self._served:
            remedy = f"{remedy}: {', '.join(self._served)}"
        if failure.permanent:
            remedy = f"give the gateway's address, and enough {name_flag('max-tokens')} for reasoning and summary"
        return SummaryError(source, str(failure), remedy)
