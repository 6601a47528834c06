"""A scripted OpenAI endpoint, and finished transcripts to summarize."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from epp.clock import Clock, SystemClock
from epp.tasks import Tasks
from epp_batch.output_folder import OutputFolder, TranscriptionResult, load_struct, save_struct, write_atomically
from epp_batch.spec import Recording, Task, TranscriptionOptions
from epp_batch.summaries import Summarizer, Summary, SummarySettings
from epp_batch.timeline import Journal, read_events

OPTIONS = TranscriptionOptions()


class ScriptedEndpoint:
    """Records requests; answers chat completions from `script`, whose last entry repeats."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.script: list[Callable[[web.Request, dict[str, Any]], Any]] = [stream("Revenue rose.")]
        self.models: list[dict[str, Any]] = [{"id": "llm", "object": "model", "max_model_len": 4096}]
        self.models_status = 200
        self.models_page = ""
        self.tokenizes = True
        self.open = self.most_open = 0
        app = web.Application(client_max_size=1 << 24)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/models", self._models),
                web.post("/tokenize", self._tokenize),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self.url = ""

    async def __aenter__(self) -> ScriptedEndpoint:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            return await answer(request, body)
        finally:
            self.open -= 1

    async def _models(self, request: web.Request) -> web.Response:
        if self.models_page:
            return web.Response(text=self.models_page, content_type="text/html")
        return web.json_response({"object": "list", "data": self.models}, status=self.models_status)

    async def _tokenize(self, request: web.Request) -> web.Response:
        if not self.tokenizes:
            raise web.HTTPNotFound
        text = (await request.json())["messages"][0]["content"]
        return web.json_response({"count": len(text) // 4})


def stream(text: str, *, finish: str | None = "stop", usage: bool = True, delta: str = "content") -> Any:
    """A streamed answer with one chunk per word; without `finish` it is cut off."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-request-id": "r-1"})
        await response.prepare(request)
        for word in text.split(" "):
            await response.write(_chunk(choices=[{"index": 0, "delta": {delta: word + " "}, "finish_reason": None}]))
        if finish is not None:
            await response.write(_chunk(choices=[{"index": 0, "delta": {}, "finish_reason": finish}]))
            if usage:
                await response.write(
                    _chunk(
                        choices=[],
                        usage={
                            "prompt_tokens": 20,
                            "completion_tokens": 2,
                            "total_tokens": 22,
                            "prompt_tokens_details": {"cached_tokens": 16},
                        },
                    )
                )
            await response.write(b"data: [DONE]\n\n")
        return response

    return answer


def reject(status: int, message: str = "no", **headers: str) -> Any:
    """An error response with OpenAI's error object."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=named)

    return answer


def _chunk(**fields: Any) -> bytes:
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "llm-served", **fields}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    async with ScriptedEndpoint() as running:
        yield running


@pytest.fixture
def folder(tmp_path) -> OutputFolder:
    return OutputFolder(tmp_path / "out")


def write_transcript(
    folder: OutputFolder, stem: str = "call", text: str = "Good morning.\nRevenue rose.\n", *more: str
) -> tuple[Task, TranscriptionResult]:
    """Writes a transcript and its sidecar under `stem`; returns the finished task and its result."""
    task = Task(recording=Recording(source=f"{stem}.mp3", stems=(stem, *more), sha256=stem), model="tiny.en")
    write_atomically(folder.path(stem, "txt"), text.encode())
    result = TranscriptionResult(
        key=task.key(OPTIONS),
        source=f"{stem}.mp3",
        sha256=stem,
        model="tiny.en",
        options=OPTIONS,
        audio_seconds=1.0,
        files={"txt": len(text.encode())},
    )
    save_struct(folder.path(stem, "done.json"), result)
    return task, result


class SummarizerHarness:
    """Creates summarizers for one output folder; collects their events, failures and retry delays."""

    def __init__(self, folder: OutputFolder) -> None:
        self.folder = folder
        self.clock: Clock = SystemClock()
        self.tasks, self.journal = Tasks("test"), Journal(folder.events_file)
        self.events: list[Any] = []
        self.failures: list[Any] = []
        self.pauses: list[float] = []
        self._sleep: Callable[[float], Any] = asyncio.sleep
        self._made: list[Summarizer] = []

    def record_pauses(self, instead: Callable[[float], Any] = lambda seconds: None) -> None:
        """Makes later summarizers record their retry delays, and pass them to `instead`, without sleeping."""

        async def note(seconds: float) -> None:
            self.pauses.append(seconds)
            instead(seconds)

        self._sleep = note

    def create_summarizer(self, url: Any, *, model: str = "", concurrency: int = 4, **settings: Any) -> Summarizer:
        made = Summarizer(
            url,
            model,
            self.folder,
            api_key="secret",
            concurrency=concurrency,
            clock=self.clock,
            tasks=self.tasks,
            journal=self.journal,
            settings=SummarySettings(**settings),
            rng=Random(1),
            sleep=self._sleep,
            unit_of_stem=lambda stem: f"run-{stem}",
            on_event=self.events.append,
            on_failure=self.failures.append,
        )
        self._made.append(made)
        return made

    def write_transcript(self, *stem_and_text: str) -> tuple[Task, TranscriptionResult]:
        return write_transcript(self.folder, *stem_and_text)

    async def close(self) -> None:
        for made in self._made:
            await made.close()
        await self.tasks.close()
        self.journal.close()


@pytest_asyncio.fixture
async def harness(folder) -> AsyncIterator[SummarizerHarness]:
    made = SummarizerHarness(folder)
    yield made
    await made.close()


async def summarize(harness, url, *tasks, **settings):
    """Summarizes these (task, result) pairs, by default one transcript; returns the outcome."""
    summarizer = harness.create_summarizer(url, **settings)
    for task, result in tasks or [harness.write_transcript()]:
        summarizer.submit(task, result)
    return await summarizer.drain()


def load_sidecar(harness, stem="call"):
    return load_struct(harness.folder.path(stem, "summary.json"), Summary)


def event_kinds(harness, stem="call"):
    return [event.kind for event in read_events(harness.folder.events_file) if event.stem == stem]
