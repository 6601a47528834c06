"""Settings of summaries: the question, its limits, and the patience with the gateway."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from epp_batch.errors import InputError

TRANSCRIPT_PLACEHOLDER = "{transcript}"
DEFAULT_TEMPLATE = f"Summarize this company earnings call audio transcript: [{TRANSCRIPT_PLACEHOLDER}]"
"""The prompt of the online stage in arXiv 2602.04900."""
KeptPart = Literal["start", "ends"]


class SummarySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How summaries are requested. The first group is part of `key`: changing it makes existing summaries outdated."""

    template: str = DEFAULT_TEMPLATE
    max_tokens: int = 512
    """Limit of the answer; 512 as in the paper."""
    max_prompt_tokens: int | None = None
    """Longer prompts are trimmed; None: the model's context less `max_tokens`. The paper's prompts have about 8,500."""
    keep: KeptPart = "start"
    """Which part of a too long transcript is kept: its start, or equal parts of its start and end."""
    temperature: float | None = None
    """None: the server's default."""
    extra: dict[str, Any] = {}
    """Additional fields of the request body, such as chat_template_kwargs."""

    headers: dict[str, str] = {}
    """Sent with every request, for example a fairness id or an objective."""
    silence_seconds: float = 600.0
    """Read timeout: a request fails if no byte arrives for this long."""
    patience_seconds: float = 900.0
    """Time limit for the attempts at one summary, and for an outage that all of them share."""

    def validate(self) -> None:
        """Raises InputError for settings that cannot work."""
        if TRANSCRIPT_PLACEHOLDER not in self.template:
            raise InputError(
                f"the prompt has no {TRANSCRIPT_PLACEHOLDER}: {self.template!r}", remedy=_PLACEHOLDER_REMEDY
            )
        if self.max_tokens < 1:
            remedy = f"give 1 or more with {name_flag('max-tokens')}"
            raise InputError(f"invalid token limit of a summary: {self.max_tokens}", remedy=remedy)
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            remedy = f"give 1 or more with {name_flag('max-prompt-tokens')}"
            raise InputError(f"invalid token limit of a prompt: {self.max_prompt_tokens}", remedy=remedy)

    def key(self, transcript: str, model: str) -> str:
        """12 hex digits, equal for equal transcript (given by its task's key), model and question."""
        question = (self.template, self.max_tokens, self.max_prompt_tokens, self.keep, self.temperature, self.extra)
        parts = (transcript, model, msgspec.json.encode(question, order="deterministic").decode())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


_PLACEHOLDER_REMEDY = f"write {TRANSCRIPT_PLACEHOLDER} where the transcript belongs"


def name_flag(name: str) -> str:
    """The flag of a setting, for messages: `summarize` has it without, `--summarize` with the prefix `summary-`."""
    return f"--{name} (--summary-{name} with --summarize)"
