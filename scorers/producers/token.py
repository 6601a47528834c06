"""Tokens of a prompt without a tokenizer."""

from __future__ import annotations

from typing import Any

from epp.api import PROMPT, Endpoints, ProducedData, Producer, Request, TokenizedPrompt

BYTES_PER_TOKEN = 4
"""Bytes a token: four of text by estimate, four of a little-endian u32 exactly."""


class TokenProducer(Producer, type="token-producer"):
    """The prompt as tokens: real ids where the request brings them, else four bytes of its text count as one.

    Images, video and audio count as llm-d's defaults have it (225, 4,500 and 139 tokens); `estimate` is accepted and
    not read yet. The `vllm` backend is not available yet, the deprecated `udsTokenizerConfig` will not be.
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
