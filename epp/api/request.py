"""What a plugin sees of one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from epp.api.columns import RequestAttribute


class TokenizedPrompt(msgspec.Struct, frozen=True, gc=False):
    """The tokens of a prompt, or the estimate of them.

    `data` is what prefix hashes are taken over, `width` bytes a token (4 for estimated tokens: four bytes of
    text count as one; 4 for real token ids as little-endian u32). `tokens` is the count, rounded up.
    """

    data: bytes
    token_count: int
    bytes_per_token: int = 4


class PrefixMatchInfo(msgspec.Struct, frozen=True, gc=False):
    """How the prompt was cut for prefix matching: `total` blocks of `block_tokens` tokens."""

    total_blocks: int
    block_size_tokens: int


PROMPT = RequestAttribute("prompt", "tokens", "the prompt as tokens, from the token producer")
PREFIX_MATCH_INFO = RequestAttribute("prefix_info", "blocks", "block count and size that PREFIX_BLOCKS counts in")


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
    attributes: dict[RequestAttribute, Any] = {}

    def __post_init__(self) -> None:
        self.target_model = self.target_model or self.model

    def __getitem__(self, fact: RequestAttribute) -> Any:
        """The fact's value, or None if its producer had none."""
        return self.attributes.get(fact)

    def release_payload(self) -> None:
        """Lets go of body, text and facts: a routed request may live for minutes, its prompt need not."""
        self.body = self.text = self.token_ids = b""
        self.attributes = {}

    def __repr__(self) -> str:
        return f"Request(id={self.id!r}, path={self.path!r}, model={self.model!r}, {len(self.body)} bytes)"
