"""Producer of the tokenized prompt, estimated where the request brings no token ids."""

from __future__ import annotations

from typing import Any

from epp.api import PROMPT, Endpoints, ProducedData, Producer, Request, TokenizedPrompt

BYTES_PER_TOKEN = 4
"""Estimated for text, exact for token ids as little-endian u32."""


class TokenProducer(Producer, type="token-producer"):
    """Produce the prompt as tokens: the token ids of the request if it has any, else four bytes of text a token.

    An image counts as 225 tokens and a video as 4,500, llm-d's defaults for media of unknown size; audio counts as 139.
    Media in the request are not decoded for their size. `estimate` is accepted and not read yet. The `vllm` backend is
    not available yet; the deprecated `udsTokenizerConfig` is not supported.
    """

    produces = (PROMPT,)

    model_name: str = ""
    estimate: dict[str, Any] | None = None
    vllm: dict[str, Any] | None = None
    uds_tokenizer_config: Any = None

    def __post_init__(self) -> None:
        if self.vllm is not None:
            raise ValueError("the vllm backend is not available yet; leave `vllm` out for the byte estimate")
        if self.uds_tokenizer_config is not None:
            raise ValueError("udsTokenizerConfig is deprecated in llm-d and not supported; leave it out")

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        data = request.token_ids or request.text
        return {PROMPT: TokenizedPrompt(data, (len(data) + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN, BYTES_PER_TOKEN)}
