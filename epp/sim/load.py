"""A load generator: plays conversations against an OpenAI endpoint and times every chunk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from epp.clock import Clock
from epp.sim.workload import Conversation

TIMEOUT_SECONDS = 120.0


@dataclass(slots=True)
class RequestTiming:
    """One request: `sent_at` in seconds from the start of the run, and the timing of its response in seconds.

    `ttft_seconds` and `chunk_gap_seconds` (between chunks) are about text: headers and the first event, which has the
    role only, do not count. `error` is empty if the response was complete.
    """

    sent_at: float
    group: int
    ttft_seconds: float = 0.0
    total_seconds: float = 0.0
    chunk_gap_seconds: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0
    text: str = ""
    error: str = ""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


class ConversationPlayer:
    """Plays conversations against `base_url`, with or without `/v1`."""

    def __init__(self, base_url: str, model: str, answer_tokens: int, clock: Clock) -> None:
        self._url = base_url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self._model = model
        self._answer_tokens = answer_tokens
        self._clock = clock
        self._event_decoder = msgspec.json.Decoder(_Event)

    async def play_conversations(self, conversations: Sequence[Conversation]) -> list[RequestTiming]:
        """Plays all of them, each at its time, independently of the others. Returns the timings in order of sending."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
            start = self._clock.now()
            played = await asyncio.gather(*(self._play_conversation(http, each, start) for each in conversations))
        return sorted((timing for timings in played for timing in timings), key=lambda timing: timing.sent_at)

    async def _play_conversation(
        self, http: aiohttp.ClientSession, conversation: Conversation, start: float
    ) -> list[RequestTiming]:
        await asyncio.sleep(max(0.0, start + conversation.starts_at - self._clock.now()))
        messages = [{"role": "system", "content": conversation.system}]
        timings: list[RequestTiming] = []
        for question, pause in zip(conversation.questions, conversation.pauses, strict=True):
            await asyncio.sleep(pause)
            messages.append({"role": "user", "content": question})
            timing = RequestTiming(self._clock.now() - start, conversation.group)
            timings.append(timing)
            try:
                await self._send_request(http, messages, timing)
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                timing.error = f"{type(error).__name__}: {error}"
            if timing.error:
                break
            messages.append({"role": "assistant", "content": timing.text})
        return timings

    async def _send_request(
        self, http: aiohttp.ClientSession, messages: list[dict[str, str]], timing: RequestTiming
    ) -> None:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "max_tokens": self._answer_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        begin = last = self._clock.now()
        parts: list[str] = []
        done = False
        async with http.post(self._url, json=body) as response:
            if response.status != 200:
                timing.error = f"HTTP {response.status}: {(await response.text())[:200]}"
                return
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                if line.startswith(b"data: [DONE]"):
                    done = True
                    break
                now = self._clock.now()
                if text := self._decode_event(line[6:], timing):
                    if parts:
                        timing.chunk_gap_seconds.append(now - last)
                    else:
                        timing.ttft_seconds = now - begin
                    parts.append(text)
                    last = now
        timing.total_seconds = last - begin
        timing.text = "".join(parts)
        if not done:
            timing.error = "the response was cut off"

    def _decode_event(self, data: bytes, timing: RequestTiming) -> str:
        event = self._event_decoder.decode(data)
        if event.usage is not None:
            timing.prompt_tokens = event.usage.prompt_tokens
            timing.output_tokens = event.usage.completion_tokens
        return "".join(choice.delta.content or "" for choice in event.choices)
