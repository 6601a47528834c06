"""What a plugin sees of one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from epp.api.columns import Fact


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """The tokens of a prompt, or the estimate of them.

    `data` is what prefix hashes are taken over, `width` bytes a token (4 for estimated tokens: four bytes of
    text count as one; 4 for real token ids as little-endian u32). `tokens` is the count, rounded up.
    """

    data: bytes
    tokens: int
    width: int = 4


class PrefixInfo(msgspec.Struct, frozen=True, gc=False):
    """How the prompt was cut for prefix matching: `total` blocks of `block_tokens` tokens."""

    total: int
    block_tokens: int


PROMPT = Fact("prompt", "tokens", "the prompt as tokens, from the token producer")
PREFIX_INFO = Fact("prefix_info", "blocks", "block count and size that PREFIX_BLOCKS counts in")


class Request(msgspec.Struct, kw_only=True, eq=False):
    """One inference request, parsed once. Read only for plugins; producers' facts arrive by `request[FACT]`.

    `model` is the name the client sent, `target_model` the one the model server will see, the same unless given; both
    are empty where the parser knows no model. `text` is the prompt text that the token estimate counts, as bytes.
    `priority` below zero may be shed.
    """

    id: str = ""
    path: str = ""
    headers: Mapping[str, str] = {}
    body: bytes = b""
    model: str = ""
    target_model: str = ""
    text: bytes = b""
    token_ids: bytes = b""
    cache_salt: str = ""
    max_output_tokens: int | None = None
    streaming: bool = False
    priority: int = 0
    fairness_id: str = "default-flow"
    facts: dict[Fact, Any] = {}

    def __post_init__(self) -> None:
        self.target_model = self.target_model or self.model

    def __getitem__(self, fact: Fact) -> Any:
        """The fact's value, or None if its producer had none."""
        return self.facts.get(fact)

    def lighten(self) -> None:
        """Lets go of body, text and facts: a routed request may live for minutes, its prompt need not."""
        self.body = self.text = self.token_ids = b""
        self.facts = {}

    def __repr__(self) -> str:
        return f"Request(id={self.id!r}, path={self.path!r}, model={self.model!r}, {len(self.body)} bytes)"
