"""From one recording to a meaningful summary: real Whisper, real Envoy, a small real model in real vLLM."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from epp_batch.demo.talks import DEMO_TALKS
from epp_batch.output_folder import OutputFolder, load_struct
from epp_batch.summaries import Summary
from tests.gateway import run_epp_up
from tests.speech import synthesize_wav

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

TALK = DEMO_TALKS[1]
TOPIC_WORDS = {"grain", "harvest", "sales", "prices", "customers", "mill", "storage", "railway", "weather"}


async def test_summary_of_a_recording_has_its_topics(smollm: Any, tmp_path: Path) -> None:
    audio, folder = tmp_path / "audio", OutputFolder(tmp_path / "out")
    audio.mkdir()
    synthesize_wav(TALK.text, audio / f"{TALK.name}.wav")
    async with run_epp_up(f"--endpoint={smollm.target}") as gateway:
        words = ("transcribe", str(audio), f"--output={folder.root}", f"--summarize={gateway.matched}")
        await run_command(*words, "--summary-max-tokens=48", "--summary-temperature=0")
        whole = load_summary(folder)
        summary_words = set(re.findall(r"\w+", folder.path(TALK.name, "summary.md").read_text().lower()))
        await run_command(*words, "--summary-max-tokens=8", "--summary-max-prompt-tokens=70")
        trimmed = load_summary(folder)
    print(folder.path(TALK.name, "txt").read_text(), whole, sep="\n")
    assert len(summary_words & TOPIC_WORDS) >= 3, summary_words
    assert (whole.served_model, whole.trim) == ("smollm2", None)
    assert whole.prompt_tokens is not None
    assert whole.completion_tokens is not None
    assert 0 < whole.completion_tokens <= 48
    assert UUID(whole.request_id), "the gateway's own, for epp explain"
    assert 0 < whole.ttft < whole.total
    assert trimmed.trim is not None
    assert trimmed.trim.counted == "server"
    assert trimmed.trim.from_tokens == whole.prompt_tokens
    assert trimmed.trim.to_tokens == trimmed.prompt_tokens <= 70


async def run_command(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "epp_batch", *words, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate()
    assert process.returncode == 0, output.decode() + errors.decode()


def load_summary(folder: OutputFolder) -> Summary:
    found = load_struct(folder.path(TALK.name, "summary.json"), Summary)
    assert found is not None
    return found
