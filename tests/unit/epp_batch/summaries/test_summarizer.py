"""Transcripts in, summaries beside them, whatever the endpoint says in between."""

from __future__ import annotations

import asyncio
import os

import pytest
from aiohttp import web

from epp_batch.errors import InputError
from epp_batch.summaries.prompt import estimate_tokens
from epp_batch.timeline import read_events
from tests.unit.epp_batch.summaries.conftest import kinds, refuses, says, sidecar, summarise


async def test_a_summary_lies_beside_its_transcript_with_how_it_was_made(stage, endpoint):
    outcome = await summarise(stage, endpoint.url, max_tokens=77, temperature=0.0, extra={"seed": 7})
    assert (outcome.done, outcome.skipped, outcome.failed) == (1, 0, [])
    assert stage.folder.path("call", "summary.md").read_text() == "# call\n\nRevenue rose.\n"
    summary = sidecar(stage)
    assert (summary.model, summary.served_model, summary.finish_reason) == ("llm", "llm-served", "stop")
    assert (summary.prompt_tokens, summary.cached_tokens, summary.completion_tokens) == (20, 16, 2)
    assert (summary.attempts, summary.refusals, summary.trim, summary.request_id) == (1, {}, None, "r-1")
    assert 0 < summary.ttft <= summary.total
    (body,) = endpoint.requests
    assert body["messages"][0]["content"].endswith("transcript: [Good morning. Revenue rose.]")
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("llm", 77, 0.0, 7)
    assert endpoint.headers[0]["Authorization"] == "Bearer secret"


async def test_the_timeline_says_when_it_was_sent_when_it_began_and_when_it_ended(stage, endpoint):
    await summarise(stage, endpoint.url)
    events = read_events(stage.folder.events_file)
    assert events == stage.events
    assert [event.kind for event in events] == ["summarizing", "first-token", "summarized"]
    assert {(event.unit, event.stem) for event in events} == {("run-call", "call")}
    assert {event.attempt for event in events} == {0}, "attempts count admissions"
    times = [event.at for event in events]
    assert times == sorted(times)


async def test_the_same_question_is_not_asked_twice_and_another_one_is(stage, endpoint):
    task = stage.transcript()
    await summarise(stage, endpoint.url, task)
    again = await summarise(stage, endpoint.url, task)
    assert (again.done, again.skipped) == (0, 1)
    other = await summarise(stage, endpoint.url, task, max_tokens=9)
    assert (other.done, other.skipped) == (1, 0)
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("model", ["", "llm"])
async def test_what_is_there_needs_no_gateway(stage, endpoint, model):
    task = stage.transcript()
    await summarise(stage, endpoint.url, task, model=model)
    again = await summarise(stage, "http://127.0.0.1:9", task, model=model, patience_seconds=0.0)
    assert (again.skipped, again.failed) == (1, [])


async def test_another_model_is_another_question(stage, endpoint):
    task = stage.transcript()
    await summarise(stage, endpoint.url, task)
    assert (await summarise(stage, endpoint.url, task, model="other")).done == 1


async def test_a_summary_whose_text_is_gone_is_made_again(stage, endpoint):
    task = stage.transcript()
    await summarise(stage, endpoint.url, task)
    stage.folder.path("call", "summary.md").unlink()
    assert (await summarise(stage, endpoint.url, task)).done == 1


async def test_a_task_offered_twice_is_summarised_once(stage, endpoint):
    task = stage.transcript()
    assert (await summarise(stage, endpoint.url, task, task)).done == 1
    assert len(endpoint.requests) == 1


async def test_every_name_of_a_recording_gets_its_summary(stage, endpoint):
    await summarise(stage, endpoint.url, stage.transcript("call", "Hello.", "again/call"))
    assert sidecar(stage, "again/call") == sidecar(stage)
    assert stage.folder.path("again/call", "summary.md").exists()


async def test_no_more_than_so_many_at_once(stage, endpoint):
    tasks = [stage.transcript(f"call{n}") for n in range(9)]
    reached, release = asyncio.Event(), asyncio.Event()

    async def held(request, body):
        if endpoint.open == 3:
            reached.set()
        await release.wait()
        return await says("Fine.")(request, body)

    endpoint.script = [held]
    summarizer = stage.summarizer(endpoint.url, concurrency=3)
    for task, result in tasks:
        summarizer.submit(task, result)
    await asyncio.wait_for(reached.wait(), 10)
    release.set()
    outcome = await summarizer.drain()
    assert outcome.done == 9
    assert endpoint.most_open == 3


async def test_a_transcript_that_is_too_long_is_trimmed_to_the_model_s_context(stage, endpoint):
    text = "and revenue rose again " * 2000
    assert (await summarise(stage, endpoint.url, stage.transcript("call", text))).done == 1
    trim = sidecar(stage).trim
    assert (trim.counted, trim.from_characters) == ("server", len(text.strip()))
    assert 4096 - 512 - 100 < trim.to_tokens <= 4096 - 512
    assert "did not fit" in stage.folder.path("call", "summary.md").read_text()


@pytest.mark.parametrize("told", [True, False])
async def test_a_server_that_only_says_so_afterwards_gets_less_and_less(stage, endpoint, told):
    endpoint.tokenizes = False
    endpoint.models = [{"id": "llm", "object": "model"}]

    async def strict(request, body):
        tokens = len(body["messages"][0]["content"]) // 2
        if tokens + body["max_tokens"] <= 2048:
            return await says("Short enough.")(request, body)
        limit = "This model's maximum context length is 2048 tokens." if told else "exceeds the available context size"
        return await refuses(400, f"{limit} However, you requested {tokens}." if told else f"{limit} (2048 tokens)")(
            request, body
        )

    endpoint.script = [strict]
    first, second = stage.transcript("a", "word " * 2000), stage.transcript("b", "text " * 2000)
    outcome = await summarise(stage, endpoint.url, first, second, concurrency=1)
    assert outcome.failed == []
    assert sidecar(stage, "a").trim.counted == "estimate"
    assert sidecar(stage, "a").attempts > 1
    lengths = [
        estimate_tokens(body["messages"][0]["content"]) for body in endpoint.requests[: sidecar(stage, "a").attempts]
    ]
    assert lengths == sorted(lengths, reverse=True)


async def test_an_adapter_has_the_context_of_its_parent(stage, endpoint):
    endpoint.models.append({"id": "tuned", "object": "model", "parent": "llm", "max_model_len": None})
    assert (await summarise(stage, endpoint.url, stage.transcript("call", "word " * 8000), model="tuned")).done == 1
    assert sidecar(stage).trim.to_tokens <= 4096 - 512


async def test_answers_that_leave_no_room_for_a_prompt(stage, endpoint):
    (failure,) = (await summarise(stage, endpoint.url, max_tokens=4096)).failed
    assert failure.message == "answers of 4096 tokens leave nothing of a context of 4096"


async def test_thoughts_are_no_summary_but_their_first_token_counts(stage, endpoint):
    endpoint.script = [says("<think>hm, revenue</think>\n\nIt rose.")]
    await summarise(stage, endpoint.url)
    assert stage.folder.path("call", "summary.md").read_text() == "# call\n\nIt rose.\n"


async def test_a_web_page_is_no_answer(stage, endpoint):
    async def page(request, body):
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    endpoint.script = [page]
    (failure,) = (await summarise(stage, endpoint.url)).failed
    assert failure.message == f"{endpoint.url} does not answer as an OpenAI API does"
    assert "the gateway's address" in failure.remedy


async def test_a_web_page_in_place_of_a_list_of_models(stage, endpoint):
    endpoint.models_page = "<html>welcome</html>"
    with pytest.raises(InputError, match="does not answer as an OpenAI API does"):
        await stage.summarizer(endpoint.url).check_gateway()
    assert (await summarise(stage, endpoint.url, model="llm")).done == 1


async def test_a_model_that_only_thinks_is_told_to_have_more_tokens(stage, endpoint):
    endpoint.script = [says("hm, hm", finish="length", delta="reasoning_content")]
    (failure,) = (await summarise(stage, endpoint.url)).failed
    assert "empty (finish_reason length)" in failure.message
    assert "--max-tokens" in failure.remedy
    assert "first-token" in kinds(stage)


async def test_an_answer_cut_at_its_limit_says_so(stage, endpoint):
    endpoint.script = [says("And then", finish="length", usage=False)]
    await summarise(stage, endpoint.url, max_tokens=2)
    assert stage.folder.path("call", "summary.md").read_text().endswith("*Cut at 2 tokens.*\n")
    assert sidecar(stage).completion_tokens is None


async def test_a_server_without_a_list_of_models_is_asked_for_the_one_named(stage, endpoint):
    endpoint.models_status = 404
    assert (await summarise(stage, endpoint.url, model="mine")).done == 1
    assert endpoint.requests[0]["model"] == "mine"


async def test_without_a_name_and_without_a_list_there_is_nobody_to_ask(stage, endpoint):
    endpoint.models_status = 404
    (failure,) = (await summarise(stage, endpoint.url)).failed
    assert "names no model" in failure.message


async def test_a_json_transcript_will_do_and_none_is_named(stage, endpoint):
    task, result = stage.transcript()
    stage.folder.path("call", "txt").unlink()
    (failure,) = (await summarise(stage, endpoint.url, (task, result))).failed
    assert "call.txt is missing" in failure.message
    stage.folder.path("call", "json").write_text('{"text": "Costs fell.", "language": "en"}')
    assert (await summarise(stage, endpoint.url, (task, result))).done == 1
    assert "[Costs fell.]" in endpoint.requests[0]["messages"][0]["content"]


async def test_silence_is_not_sent(stage, endpoint):
    (failure,) = (await summarise(stage, endpoint.url, stage.transcript("call", " \n"))).failed
    assert "has no words" in failure.message
    assert endpoint.requests == []


async def test_a_disk_that_is_full_is_named(stage, endpoint):
    task = stage.transcript()
    temporary = stage.folder.path("call", "summary.md").with_name(f".call.summary.md.{os.getpid()}.tmp")
    temporary.symlink_to("/dev/full")
    (failure,) = (await summarise(stage, endpoint.url, task)).failed
    assert (failure.kind, failure.message) == ("disk_full", "No space left on device")
    assert not stage.folder.path("call", "summary.json").exists()


async def test_what_is_given_up_leaves_nothing_in_the_folder(stage, endpoint):
    reached = asyncio.Event()

    async def hangs(request, body):
        reached.set()
        await asyncio.Event().wait()

    endpoint.script = [hangs]
    summarizer = stage.summarizer(endpoint.url)
    summarizer.submit(*stage.transcript())
    await asyncio.wait_for(reached.wait(), 10)
    assert summarizer.pending == 1
    await summarizer.close()
    assert summarizer.pending == 0
    assert stage.folder.load_failure("call") is None
    assert not stage.folder.path("call", "summary.json").exists()


async def test_a_look_before_the_work(stage, endpoint):
    assert await stage.summarizer(endpoint.url, model="llm").check_gateway() == ""
    assert await stage.summarizer(endpoint.url).check_gateway() == ""
    assert (
        "'other' is not among those served: llm" in await stage.summarizer(endpoint.url, model="other").check_gateway()
    )
    assert "does not answer yet" in await stage.summarizer("http://127.0.0.1:9").check_gateway()
    endpoint.models_status = 401
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        await stage.summarizer(endpoint.url).check_gateway()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"template": "Summarize."}, "where the transcript goes"),
        ({"max_tokens": 0}, "--max-tokens"),
        ({"max_prompt_tokens": 0}, "--max-prompt-tokens"),
        ({"concurrency": 0}, "0 summaries at once"),
        ({"url": "localhost:8081"}, "'localhost:8081' is no address"),
        ({"url": ["http://a:1", "http://"]}, "is no address"),
    ],
)
async def test_settings_that_cannot_work_are_refused(stage, settings, complaint):
    with pytest.raises(InputError, match=complaint):
        stage.summarizer(**{"url": "http://127.0.0.1:9"} | settings)
