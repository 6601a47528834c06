"""What is asked of the model, and how patiently."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from epp_batch.errors import InputError

TRANSCRIPT_PLACEHOLDER = "{transcript}"
DEFAULT_TEMPLATE = f"Summarize this company earnings call audio transcript: [{TRANSCRIPT_PLACEHOLDER}]"
"""The prompt of arXiv 2602.04900's online stage."""
KeptPart = Literal["start", "ends"]


class SummarySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How summaries are made. The first group decides what a summary says, and so whether one is still good."""

    template: str = DEFAULT_TEMPLATE
    max_tokens: int = 512
    """The longest answer; the paper's."""
    max_prompt_tokens: int | None = None
    """Longer prompts are trimmed; None: what the model's context leaves. The paper's prompts had about 8,500."""
    keep: KeptPart = "start"
    """What stays of a transcript that is too long: its start, or its start and end in equal parts."""
    temperature: float | None = None
    """None: the server's default."""
    extra: dict[str, Any] = {}
    """More fields of the request body, such as chat_template_kwargs."""

    headers: dict[str, str] = {}
    """Sent with every request: a fairness id, an objective …"""
    silence_seconds: float = 600.0
    """A request without a byte of answer for so long has failed."""
    patience_seconds: float = 900.0
    """How long one summary is asked for, and how long an outage is waited out by all of them together."""

    def validate(self) -> None:
        """Raises InputError for what cannot work."""
        if TRANSCRIPT_PLACEHOLDER not in self.template:
            raise InputError(
                f"the prompt does not say where the transcript goes: {self.template!r}", remedy=_PLACEHOLDER_REMEDY
            )
        if self.max_tokens < 1:
            raise InputError(f"an answer of {self.max_tokens} tokens", remedy="give --max-tokens 1 or more")
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            raise InputError(
                f"a prompt of {self.max_prompt_tokens} tokens", remedy="give --max-prompt-tokens 1 or more"
            )

    def key(self, transcript: str, model: str) -> str:
        """12 hex digits, equal for equal transcript (a task's key), model and question."""
        asked = (self.template, self.max_tokens, self.max_prompt_tokens, self.keep, self.temperature, self.extra)
        parts = (transcript, model, msgspec.json.encode(asked, order="deterministic").decode())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


_PLACEHOLDER_REMEDY = f"write {TRANSCRIPT_PLACEHOLDER} where it belongs"
