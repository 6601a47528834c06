"""The steps of the demo: speech, `epp-batch transcribe --summarize`, `epp-batch report`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from epp_batch.demo import processes, speech
from epp_batch.demo.talks import DEMO_TALKS

PrintLine = Callable[[str], None]


async def run_demo(
    sources: Sequence[str], root: Path, *, servers: int, max_tokens: int, limit: float, print_line: PrintLine
) -> int:
    """Runs all steps, with output below `root`; returns the last non-zero exit code. `print_line` prints progress."""
    output, page = root / "transcripts", root / "report.html"
    references: list[str] = []
    if not sources:
        sources = [str(root / "audio")]
        references = ["--references", str(root / "references")]
        _prepare_speech(root, print_line)
    root.mkdir(parents=True, exist_ok=True)
    async with processes.start_gateway(servers, root / "gateway.log") as url:
        print_line(f"gateway   {url} in front of {servers} simulated model servers")
        transcribe = (
            "transcribe", *sources, "--output", str(output), *references,
            "--summarize", url, "--summary-max-tokens", str(max_tokens),
        )  # fmt: skip
        code = await _run_step(transcribe, limit, print_line)
    code = await _run_step(("report", str(output), "--write", str(page)), limit, print_line) or code
    print_line(f"\nopen      {page}\nread      {output}/*.summary.md (by simulated servers: it is pseudo-language)")
    return code


def _prepare_speech(root: Path, print_line: PrintLine) -> None:
    audio, texts = root / "audio", root / "references"
    for folder in (audio, texts):
        folder.mkdir(parents=True, exist_ok=True)
    speech.synthesize_talks(DEMO_TALKS, audio, texts)
    copied = speech.copy_librivox(audio, texts, os.environ)
    librivox = f", {copied} sentences read by people" if copied else ""
    print_line(f"speech    {len(DEMO_TALKS)} talks by espeak-ng{librivox}: {audio}")


async def _run_step(words: Sequence[str], limit: float, print_line: PrintLine) -> int:
    print_line(f"\n$ epp-batch {shlex.join(words)}")
    return await processes.run_command(words, limit)
