"""Summaries through real Envoy and the real picker, and the whole demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from epp_batch.output_folder import OutputFolder, TranscriptionResult, load_struct, save_struct, write_atomically
from epp_batch.spec import Recording, Run, Task, TranscriptionOptions, Unit
from epp_batch.summaries import Summary
from epp_batch.timeline import TimelineEvent, read_events
from tests.gateway import run_epp, run_epp_up

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(180)]

LABEL_SELECTOR_CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: file-discovery
  parameters: {{path: {path}, watchFile: true}}
- type: label-selector-filter
  parameters: {{matchLabels: {{summaries: welcome}}}}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins: [{{pluginRef: label-selector-filter}}, {{pluginRef: max-score-picker}}]
dataLayer: {{discovery: {{pluginRef: file-discovery}}}}
"""


def write_transcripts(root: Path, count: int, words: int = 50) -> OutputFolder:
    """A folder that a run was transcribed into."""
    folder, options, units = OutputFolder(root), TranscriptionOptions(), []
    for number in range(count):
        name = f"call{number}"
        task = Task(recording=Recording(source=f"{name}.mp3", stems=(name,), sha256=name), model="tiny.en")
        units.append(Unit(name=f"run-{number}", tasks=(task,)))
        text = f"In quarter {number} revenue rose again. " * words
        write_atomically(folder.path(name, "txt"), text.encode())
        result = TranscriptionResult(
            key=task.key(options),
            source=task.recording.source,
            sha256=name,
            model="tiny.en",
            options=options,
            audio_seconds=1.0,
            files={"txt": len(text)},
        )
        save_struct(folder.path(name, "done.json"), result)
    folder.save_run(Run(name="run", output=str(root), options=options, units=tuple(units)))
    return folder


async def start_command(*words: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "epp_batch", *words, stdout=PIPE, stderr=PIPE, start_new_session=True
    )


async def read_stdout_events(process: Process) -> AsyncIterator[TimelineEvent]:
    assert process.stdout is not None
    async for line in process.stdout:
        yield msgspec.json.decode(line, type=TimelineEvent)


def load_summary(folder: OutputFolder, stem: str) -> Summary:
    found = load_struct(folder.path(stem, "summary.json"), Summary)
    assert found is not None
    return found


async def test_folder_is_summarized_once_through_the_gateway(tmp_path: Path) -> None:
    folder = write_transcripts(tmp_path / "out", 12, words=600)
    words = ("summarize", str(folder.root), "--max-tokens=16")
    async with run_epp_up("--sim=3", "--sim-flags=--max-model-len=4096") as (_, url):
        first = await start_command(*words, f"--url={url}")
        output, errors = await first.communicate()
        assert (first.returncode, errors) == (0, b"")
        assert b"12 summarised, 0 there already, 0 failed" in output
        again = await start_command(*words, f"--url={url}")
        assert b"0 summarised, 12 there already, 0 failed" in (await again.communicate())[0]
    for number in range(12):
        made = load_summary(folder, f"call{number}")
        assert (made.completion_tokens, made.attempts, made.finish_reason) == (16, 1, "length")
        assert made.prompt_tokens is not None
        assert made.trim is not None
        assert made.trim.to_tokens == made.prompt_tokens <= 4096 - 16 < made.trim.from_tokens
        assert UUID(made.request_id), "the gateway's own, for epp explain"
    kinds = [event.kind for event in read_events(folder.events_file)]
    assert sorted(set(kinds)) == ["first-token", "summarized", "summarizing"]
    assert kinds.count("summarized") == 12


@pytest.mark.parametrize(
    ("before", "reason"),
    [("[]", "rejected-no-endpoints"), ("[{name: a, address: 127.0.0.1, port: PORT}]", "rejected-saturated")],
)
async def test_rejections_of_the_picker_are_retried(tmp_path: Path, before: str, reason: str) -> None:
    folder, pool, config = write_transcripts(tmp_path / "out", 1), tmp_path / "pool.yaml", tmp_path / "epp.yaml"
    config.write_text(LABEL_SELECTOR_CONFIG.format(path=pool))
    async with run_epp("sim", "--port=0", pattern=r"127.0.0.1:(\d+)") as (_, port):
        pool.write_text(f"endpoints: {before.replace('PORT', port)}")
        async with run_epp_up(f"--config-file={config}") as (_, url):
            process = await start_command("summarize", str(folder.root), f"--url={url}", "--model=sim", "--json")
            kinds = []
            async for event in read_stdout_events(process):
                kinds.append(event.kind)
                if event.kind == "refused":
                    assert reason in event.detail
                    welcome = f"{{name: a, address: 127.0.0.1, port: {port}, labels: {{summaries: welcome}}}}"
                    pool.write_text(f"endpoints: [{welcome}]")
            assert await process.wait() == 0
    assert kinds[0] == "refused"
    assert kinds[-3:] == ["summarizing", "first-token", "summarized"]


async def test_dead_gateway_is_replaced_by_the_next(tmp_path: Path) -> None:
    folder = write_transcripts(tmp_path / "out", 6)
    async with run_epp_up("--sim=1") as (dying, first), run_epp_up("--sim=1") as (_, second):
        process = await start_command(
            "summarize", str(folder.root), f"--url={first}", f"--url={second}", "--json", "--concurrency=2",
            "--max-tokens=120",
        )  # fmt: skip
        kinds = []
        async for event in read_stdout_events(process):
            kinds.append(event.kind)
            if kinds.count("first-token") == 3 and dying.returncode is None:
                dying.kill()
                await dying.wait()
        assert await process.wait() == 0
    assert kinds.count("summarized") == 6
    assert "refused" in kinds
    urls = [load_summary(folder, f"call{number}").url for number in range(6)]
    assert set(urls) == {first, second}


async def test_follow_summarizes_later_transcripts(tmp_path: Path) -> None:
    folder = write_transcripts(tmp_path / "out", 2)
    late = folder.path("call1", "done.json")
    kept = late.read_bytes()
    late.unlink()
    async with run_epp_up("--sim=1") as (_, url):
        process = await start_command(
            "summarize", str(folder.root), f"--url={url}", "--json", "--follow", "--max-tokens=8"
        )
        stems = []
        async for event in read_stdout_events(process):
            if event.kind == "summarized":
                stems.append(event.stem)
                late.write_bytes(kept)
        assert await process.wait() == 0
    assert stems == ["call0", "call1"]


async def test_demo_produces_transcripts_summaries_and_report(tmp_path: Path) -> None:
    process = await start_command("demo", f"--output={tmp_path}", "--max-tokens=24")
    output, errors = await process.communicate()
    assert process.returncode == 0, output.decode() + errors.decode()
    folder = OutputFolder(tmp_path / "transcripts")
    run = folder.load_run()
    for task in run.list_tasks():
        assert folder.find_finished_result(task, run.options) is not None
        assert load_summary(folder, task.stem).completion_tokens == 24
    events = read_events(folder.events_file)
    assert min(e.at for e in events if e.kind == "summarized") < max(e.at for e in events if e.kind == "finished")
    words = set(re.findall(r"\w+", folder.path("meridian-steel", "txt").read_text().lower()))
    assert {"steel", "furnace", "dividend", "europe"} <= words
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert str(tmp_path / "report.html") in output.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_demo_leaves_no_processes_after(number: signal.Signals, tmp_path: Path) -> None:
    process = await start_command("demo", f"--output={tmp_path}")
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"$ epp-batch transcribe"):
            break
    family = list_descendants(process.pid)
    assert len(family) >= 3
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    await process.communicate()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    async with asyncio.timeout(60):
        while any(is_alive(pid) for pid in family):
            await asyncio.sleep(0.05)


def list_descendants(ancestor: int) -> list[int]:
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = [ancestor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
