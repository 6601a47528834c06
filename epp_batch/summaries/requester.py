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
from epp_batch.summaries.client import Answer, Client, Model, Refused
from epp_batch.summaries.prompt import Prompt, estimate, fit
from epp_batch.summaries.settings import Settings
from epp_batch.summaries.summary import Summary, Unsummarized

T = TypeVar("T")
Told = Literal["summarizing", "first-token", "refused"]
Tell = Callable[[Told, str], None]
"""Hears of each attempt: that it was sent, that its first token came, or why not and what happens next."""
Sleep = Callable[[float], Awaitable[None]]

_CONTEXT = re.compile(r"(?:context length is|context size[^0-9]{0,20})\D*(\d+)")
_SHRINKS = 6
_SHRINK = 0.8
_REMEDIES = {
    401: "give the gateway's key in OPENAI_API_KEY",
    403: "give the gateway's key in OPENAI_API_KEY",
    400: "the server's message says what it does not like in the request",
    404: "name a model that the gateway serves",
    413: "give a smaller --max-prompt-tokens",
}
_LATER = "see that the gateway has servers, then run `epp-batch summarize`; what is summarised stays"


class Progress(msgspec.Struct):
    """The attempts at one answer."""

    began: float
    """Monotonic seconds."""
    attempts: int = 0
    refusals: Counter[str] = msgspec.field(default_factory=Counter)
    sent: float = 0.0
    """When the last attempt was sent."""


class Asking:
    """Asks for summaries over one client; knows the model and its context once it has seen them."""

    def __init__(self, client: Client, model: str, settings: Settings, clock: Clock, rng: Random, sleep: Sleep) -> None:
        self._client, self._settings, self._clock, self._rng = client, settings, clock, rng
        self._sleep = sleep
        self._model = Model(model)
        self._served: list[str] = []
        self._seen = False
        self._looking = asyncio.Lock()
        self._outage = retry.Outage(settings.patience_seconds)

    async def look(self) -> str:
        """Finds the model among those served; a warning if it is not there. Raises Refused."""
        models = await self._client.models()
        self._served = [model.name for model in models]
        self._seen = True
        name = self._model.name or next(iter(self._served), "")
        self._model = next((model for model in models if model.name == name), Model(name))
        if name in self._served:
            return ""
        # A gateway may rewrite names, so this is no reason to stop.
        return f"model {name!r} is not among those served: {', '.join(self._served) or 'none'}"

    async def model(self, source: str, tell: Tell) -> Model:
        """The model to ask; raises Unsummarized where nobody says which."""
        async with self._looking:
            if not self._seen:
                try:
                    await self._keep_at(source, Progress(self._clock.now()), self.look, tell)
                except Refused as refused:
                    if refused.refusal.status in (401, 403):
                        raise self._never(source, refused.refusal) from refused
                    self._seen = True  # a server without a list of models; the one that was named may be there
        if not self._model.name:
            remedy = "name one with --summary-model"
            raise Unsummarized(source, f"{self._client.url} names no model", remedy)
        return self._model

    async def ask(self, source: str, transcript: str, key: str, tell: Tell) -> tuple[str, Summary]:
        """The summary of one transcript; raises Unsummarized."""
        started, progress = self._clock.wall(), Progress(self._clock.now())
        prompt, answer = await self._fitting(source, transcript, progress, tell)
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
            ttft=answer.first_token - progress.sent,
            total=end - progress.sent,
            waited=progress.sent - progress.began,
            attempts=progress.attempts,
            refusals=dict(progress.refusals),
            finish_reason=answer.finish,
            request_id=answer.request_id,
            started=started,
            finished=self._clock.wall(),
        )
        return answer.text, summary

    async def _fitting(self, source: str, transcript: str, progress: Progress, tell: Tell) -> tuple[Prompt, Answer]:
        """Sends the transcript, and a shorter one as long as the server finds it too long."""
        budget = self._budget(source)
        for _ in range(_SHRINKS):
            prompt = await fit(transcript, self._settings, budget, self._count)

            async def send(text: str = prompt.text) -> Answer:
                tell("summarizing", "")
                return await self._client.ask(text, self._model.name, lambda: tell("first-token", ""))

            try:
                return prompt, await self._keep_at(source, progress, send, tell)
            except Refused as refused:
                context = _CONTEXT.search(refused.refusal.message) if refused.refusal.status == 400 else None
                if context is None:
                    raise self._never(source, refused.refusal) from refused
                if self._model.context is None:
                    self._model = Model(self._model.name, int(context[1]))
                sent = prompt.trim.to_tokens if prompt.trim else estimate(prompt.text)
                budget = min(self._budget(source) or sent, int(sent * _SHRINK))
        raise Unsummarized(source, "no part of the transcript was short enough", "give a smaller --max-prompt-tokens")

    async def _keep_at(self, source: str, progress: Progress, send: Callable[[], Awaitable[T]], tell: Tell) -> T:
        """What `send` brings, tried again while it may help; raises the Refused that will not pass."""
        before, last = 0, None
        while True:
            turn, progress.sent = self._client.turn, self._clock.now()
            progress.attempts += 1
            try:
                answer = await send()
            except Refused as refused:
                refusal = refused.refusal
                progress.refusals[refusal.label] += 1
                if not refusal.passing:
                    raise
            else:
                self._outage.answered()
                return answer
            before = before + 1 if refusal.label == last else 0
            last = refusal.label
            wait = retry.wait(refusal, before, self._rng)
            now = self._clock.now()
            spent = max(now - progress.began, self._outage.refused(now))
            if spent + wait.seconds > self._settings.patience_seconds:
                raise Unsummarized(source, f"no answer in {spent:.0f} s; the last was: {refusal}", _LATER)
            tell("refused", f"{refusal}; again in {wait.seconds:.1f} s")
            if wait.elsewhere:
                self._client.elsewhere(turn)
            await self._sleep(wait.seconds)

    async def _count(self, prompt: str) -> int | None:
        return await self._client.count(prompt, self._model.name)

    def _budget(self, source: str) -> int | None:
        """Tokens that a prompt may have; None where nothing limits it."""
        asked, context = self._settings.max_prompt_tokens, self._model.context
        if context is None:
            return asked
        room = context - self._settings.max_tokens
        if room < 1:
            message = f"answers of {self._settings.max_tokens} tokens leave nothing of a context of {context}"
            raise Unsummarized(source, message, "give a smaller --max-tokens")
        return room if asked is None else min(asked, room)

    def _never(self, source: str, refusal: retry.Refusal) -> Unsummarized:
        remedy = _REMEDIES.get(refusal.status, "ask differently: it would be the same again")
        if refusal.status == 404 and self._served:
            remedy = f"{remedy}: {', '.join(self._served)}"
        if refusal.permanent:
            remedy = "give the gateway's address, and the model enough --max-tokens for thoughts and summary"
        return Unsummarized(source, str(refusal), remedy)
