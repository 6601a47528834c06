"""The demo's course: each step is a command that anybody could give, and is shown as such."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from epp_batch.demo import processes, speech
from epp_batch.demo.talks import DEMO_TALKS

PrintLine = Callable[[str], None]


async def run_demo(
    sources: Sequence[str], root: Path, *, servers: int, max_tokens: int, limit: float, say: PrintLine
) -> int:
    """Speech to transcripts to summaries to a report, below `root`; the exit code of the first step that failed."""
    output, page = root / "transcripts", root / "report.html"
    references: list[str] = []
    if not sources:
        sources = [str(root / "audio")]
        references = ["--references", str(root / "references")]
        _prepare_speech(root, say)
    root.mkdir(parents=True, exist_ok=True)
    async with processes.start_gateway(servers, root / "gateway.log") as url:
        say(f"gateway   {url} in front of {servers} simulated model servers")
        transcribe = (
            "transcribe", *sources, "--output", str(output), *references,
            "--summarize", url, "--summary-max-tokens", str(max_tokens),
        )  # fmt: skip
        code = await _run_step(transcribe, limit, say)
    code = await _run_step(("report", str(output), "--write", str(page)), limit, say) or code
    say(f"\nopen      {page}\nread      {output}/*.summary.md (by simulated servers: it is pseudo-language)")
    return code


def _prepare_speech(root: Path, say: PrintLine) -> None:
    audio, texts = root / "audio", root / "references"
    for folder in (audio, texts):
        folder.mkdir(parents=True, exist_ok=True)
    speech.synthesize_talks(DEMO_TALKS, audio, texts)
    read = speech.copy_librivox(audio, texts, os.environ)
    human = f", {read} sentences read by people" if read else ""
    say(f"speech    {len(DEMO_TALKS)} talks by espeak-ng{human}: {audio}")


async def _run_step(words: Sequence[str], limit: float, say: PrintLine) -> int:
    say(f"\n$ epp-batch {shlex.join(words)}")
    return await processes.run_command(words, limit)
