"""One recording to a summary that means something: real Whisper, real Envoy, a real small model in real vLLM."""

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
from tests.gateway import epp_up
from tests.speech import espeak

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

CALL = DEMO_TALKS[1]
ABOUT = {"grain", "harvest", "sales", "prices", "customers", "mill", "storage", "railway", "weather"}


async def test_a_recording_becomes_a_summary_of_what_was_said(smollm: Any, tmp_path: Path) -> None:
    audio, folder = tmp_path / "audio", OutputFolder(tmp_path / "out")
    audio.mkdir()
    espeak(CALL.text, audio / f"{CALL.name}.wav")
    async with epp_up(f"--endpoint={smollm.target}") as gateway:
        words = ("transcribe", str(audio), f"--output={folder.root}", f"--summarize={gateway.said}")
        await command(*words, "--summary-max-tokens=48", "--summary-temperature=0")
        whole = read(folder)
        said = set(re.findall(r"\w+", folder.path(CALL.name, "summary.md").read_text().lower()))
        await command(*words, "--summary-max-tokens=8", "--summary-max-prompt-tokens=70")
        trimmed = read(folder)
    print(folder.path(CALL.name, "txt").read_text(), whole, sep="\n")
    assert len(said & ABOUT) >= 3, said
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


async def command(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "epp_batch", *words, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate()
    assert process.returncode == 0, output.decode() + errors.decode()


def read(folder: OutputFolder) -> Summary:
    found = load_struct(folder.path(CALL.name, "summary.json"), Summary)
    assert found is not None
    return found
