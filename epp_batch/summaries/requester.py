"""One transcript, one summary: finds the model, fits the prompt, asks until there is an answer."""

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
from epp_batch.summaries.settings import SummarySettings
from epp_batch.summaries.summary import Summary, SummaryError

T = TypeVar("T")
AttemptEvent = Literal["summarizing", "first-token", "refused"]
OnAttemptEvent = Callable[[AttemptEvent, str], None]
"""Hears of each attempt: that it was sent, that its first token came, or why not and what happens next."""
Sleep = Callable[[float], Awaitable[None]]

_CONTEXT_LENGTH = re.compile(r"(?:context length is|context size[^0-9]{0,20})\D*(\d+)")
_MAX_SHRINKS = 6
_SHRINK_FACTOR = 0.8
_REMEDIES = {
    401: "give the gateway's key in OPENAI_API_KEY",
    403: "give the gateway's key in OPENAI_API_KEY",
    400: "the server's message says what it does not like in the request",
    404: "name a model that the gateway serves",
    413: "give a smaller --max-prompt-tokens",
}
_RETRY_LATER_REMEDY = "see that the gateway has servers, then run `epp-batch summarize`; what is summarised stays"


class RequestAttempts(msgspec.Struct):
    """The attempts at one answer."""

    started_at: float
    """Monotonic seconds."""
    attempts: int = 0
    refusals: Counter[str] = msgspec.field(default_factory=Counter)
    sent_at: float = 0.0
    """When the last attempt was sent."""


class SummaryRequester:
    """Asks for summaries over one client; knows the model and its context once it has seen them."""

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
        """Finds the model among those served; a warning if it is not there. Raises Refused."""
        models = await self._client.list_models()
        self._served = [model.name for model in models]
        self._model_resolved = True
        name = self._model.name or next(iter(self._served), "")
        self._model = next((model for model in models if model.name == name), ServedModel(name))
        if name in self._served:
            return ""
        # A gateway may rewrite names, so this is no reason to stop.
        return f"model {name!r} is not among those served: {', '.join(self._served) or 'none'}"

    async def resolve_model(self, source: str, tell: OnAttemptEvent) -> ServedModel:
        """The model to ask; raises Unsummarized where nobody says which."""
        async with self._resolve_lock:
            if not self._model_resolved:
                try:
                    await self._retry(source, RequestAttempts(self._clock.now()), self.discover_model, tell)
                except AttemptFailed as refused:
                    if refused.failure.status in (401, 403):
                        raise self._build_permanent_error(source, refused.failure) from refused
                    self._model_resolved = (
                        True  # a server without a list of models; the one that was named may be there
                    )
        if not self._model.name:
            remedy = "name one with --summary-model"
            raise SummaryError(source, f"{self._client.url} names no model", remedy)
        return self._model

    async def request_summary(
        self, source: str, transcript: str, key: str, tell: OnAttemptEvent
    ) -> tuple[str, Summary]:
        """The summary of one transcript; raises Unsummarized."""
        started, progress = self._clock.wall(), RequestAttempts(self._clock.now())
        prompt, answer = await self._request_with_shrinking(source, transcript, progress, tell)
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
            ttft=answer.first_token_at - progress.sent_at,
            total=end - progress.sent_at,
            waited=progress.sent_at - progress.started_at,
            attempts=progress.attempts,
            refusals=dict(progress.refusals),
            finish_reason=answer.finish_reason,
            request_id=answer.request_id,
            started=started,
            finished=self._clock.wall(),
        )
        return answer.text, summary

    async def _request_with_shrinking(
        self, source: str, transcript: str, progress: RequestAttempts, tell: OnAttemptEvent
    ) -> tuple[SummaryPrompt, ChatAnswer]:
        """Sends the transcript, and a shorter one as long as the server finds it too long."""
        budget = self._prompt_budget(source)
        for _ in range(_MAX_SHRINKS):
            prompt = await fit_prompt(transcript, self._settings, budget, self._count_tokens)

            async def send(text: str = prompt.text) -> ChatAnswer:
                tell("summarizing", "")
                return await self._client.stream_completion(text, self._model.name, lambda: tell("first-token", ""))

            try:
                return prompt, await self._retry(source, progress, send, tell)
            except AttemptFailed as refused:
                context = _CONTEXT_LENGTH.search(refused.failure.message) if refused.failure.status == 400 else None
                if context is None:
                    raise self._build_permanent_error(source, refused.failure) from refused
                if self._model.context_tokens is None:
                    self._model = ServedModel(self._model.name, int(context[1]))
                sent = prompt.trim.to_tokens if prompt.trim else estimate_tokens(prompt.text)
                budget = min(self._prompt_budget(source) or sent, int(sent * _SHRINK_FACTOR))
        raise SummaryError(source, "no part of the transcript was short enough", "give a smaller --max-prompt-tokens")

    async def _retry(
        self, source: str, progress: RequestAttempts, send: Callable[[], Awaitable[T]], tell: OnAttemptEvent
    ) -> T:
        """What `send` brings, tried again while it may help; raises the Refused that will not pass."""
        before, last = 0, None
        while True:
            turn, progress.sent_at = self._client.connection_generation, self._clock.now()
            progress.attempts += 1
            try:
                answer = await send()
            except AttemptFailed as refused:
                refusal = refused.failure
                progress.refusals[refusal.label] += 1
                if not refusal.is_retryable:
                    raise
            else:
                self._outage.record_answer()
                return answer
            before = before + 1 if refusal.label == last else 0
            last = refusal.label
            wait = retry.compute_retry_delay(refusal, before, self._rng)
            now = self._clock.now()
            spent = max(now - progress.started_at, self._outage.record_failure(now))
            if spent + wait.seconds > self._settings.patience_seconds:
                raise SummaryError(source, f"no answer in {spent:.0f} s; the last was: {refusal}", _RETRY_LATER_REMEDY)
            tell("refused", f"{refusal}; again in {wait.seconds:.1f} s")
            if wait.reconnect:
                self._client.reconnect(turn)
            await self._sleep(wait.seconds)

    async def _count_tokens(self, prompt: str) -> int | None:
        return await self._client.count_tokens(prompt, self._model.name)

    def _prompt_budget(self, source: str) -> int | None:
        """Tokens that a prompt may have; None where nothing limits it."""
        asked, context = self._settings.max_prompt_tokens, self._model.context_tokens
        if context is None:
            return asked
        room = context - self._settings.max_tokens
        if room < 1:
            message = f"answers of {self._settings.max_tokens} tokens leave nothing of a context of {context}"
            raise SummaryError(source, message, "give a smaller --max-tokens")
        return room if asked is None else min(asked, room)

    def _build_permanent_error(self, source: str, refusal: retry.AttemptFailure) -> SummaryError:
        remedy = _REMEDIES.get(refusal.status, "ask differently: it would be the same again")
        if refusal.status == 404 and self._served:
            remedy = f"{remedy}: {', '.join(self._served)}"
        if refusal.permanent:
            remedy = "give the gateway's address, and the model enough --max-tokens for thoughts and summary"
        return SummaryError(source, str(refusal), remedy)
