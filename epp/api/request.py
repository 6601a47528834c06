"""One inference request as plugins see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from epp.api.columns import RequestAttribute


class TokenizedPrompt(msgspec.Struct, frozen=True, gc=False):
    """A prompt as tokens, exact or estimated (llm-d: TokenizedRequest, under the data key TokenizedPrompt).

    `data` are the bytes that prefix hashes are computed over, `bytes_per_token` of them a token: 4 for token ids as
    little-endian u32, and 4 for the estimate, in which four bytes of text count as one token. `token_count` is rounded
    up.
    """

    data: bytes
    token_count: int
    bytes_per_token: int = 4


class PrefixMatchInfo(msgspec.Struct, frozen=True, gc=False):
    """Into how many blocks, of how many tokens each, the prompt was divided for prefix matching."""

    total_blocks: int
    block_size_tokens: int


PROMPT = RequestAttribute("prompt", "tokens", "the prompt as tokens")
PREFIX_MATCH_INFO = RequestAttribute("prefix_info", "blocks", "number and size of the blocks that prefix_blocks counts")


class Request(msgspec.Struct, kw_only=True, eq=False):
    """One inference request, parsed once. Read-only for plugins; producers' outputs are read with `request[ATTRIBUTE]`.

    `model` is the name in the request, `target_model` the one that the model server gets, the same unless rewritten;
    both are "" if the parser found no model. `text` is the prompt as UTF-8, `token_ids` as little-endian u32. Requests
    of `priority` below zero may be shed. `path` is the request path with its query, header names are in lower case.
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

    def __getitem__(self, attribute: RequestAttribute) -> Any:
        """The attribute's value; None if it was not produced."""
        return self.attributes.get(attribute)

    def release_payload(self) -> None:
        """Drops body, prompt and attributes when the request is routed: the response may take minutes."""
        self.body = self.text = self.token_ids = b""
        self.attributes = {}

    def __repr__(self) -> str:
        return f"Request(id={self.id!r}, path={self.path!r}, model={self.model!r}, {len(self.body)} bytes)"
