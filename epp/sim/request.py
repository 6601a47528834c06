"""One request inside an engine, after vLLM V1's `Request` (vllm/v1/request.py)."""

from __future__ import annotations

from typing import Protocol

from epp.sim import block_pool, tokens


class ProgressListener(Protocol):
    """Is called when a request got a token or finished."""

    def on_progress(self) -> None:
        """Must not block."""


class SimRequest:
    """State of one request. Created by the client, changed by the engine only.

    `block_hashes` are those of the full blocks so far, prompt and output; `partial_block` holds the tokens after them.
    `stop_length` is the number of output tokens after which the model stops by itself, at most `max_tokens`.
    `finish_reason` is empty while the request is waiting or running, then "stop", "length" or "abort". Times are
    seconds of the engine's clock, None until known.
    """

    __slots__ = (
        "arrived_at",
        "block_hashes",
        "blocks",
        "cached_blocks",
        "cached_tokens",
        "computed_tokens",
        "finish_reason",
        "first_token_at",
        "last_token_at",
        "listener",
        "lora_name",
        "max_tokens",
        "output_tokens",
        "partial_block",
        "preemption_count",
        "prompt_tokens",
        "request_id",
        "root_hash",
        "scheduled_at",
        "seed",
        "stop_length",
    )

    def __init__(
        self,
        *,
        request_id: str,
        prompt_tokens: int,
        block_hashes: list[int],
        partial_block: bytes = b"",
        max_tokens: int,
        stop_length: int | None = None,
        seed: int = 0,
        lora_name: str = "",
        root_hash: int = block_pool.ROOT_HASH,
        listener: ProgressListener | None = None,
    ) -> None:
        self.request_id = request_id
        self.prompt_tokens = prompt_tokens
        self.block_hashes = block_hashes
        self.partial_block = bytearray(partial_block)
        self.max_tokens = max_tokens
        self.stop_length = max_tokens if stop_length is None else min(stop_length, max_tokens)
        self.seed = seed
        self.lora_name = lora_name
        self.root_hash = root_hash
        self.listener = listener
        self.blocks: list[int] = []
        self.cached_blocks = 0  # leading blocks that are in the prefix cache
        self.computed_tokens = 0  # tokens whose KV is in the cache
        self.output_tokens = 0
        self.cached_tokens = 0  # of the prompt, at the first admission
        self.preemption_count = 0
        self.finish_reason = ""
        self.arrived_at = 0.0
        self.scheduled_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None

    @classmethod
    def from_prompt(
        cls,
        prompt: bytes,
        block_size: int,
        *,
        request_id: str,
        max_tokens: int,
        stop_length: int | None = None,
        seed: int = 0,
        lora_name: str = "",
        cache_salt: str = "",
        listener: ProgressListener | None = None,
    ) -> SimRequest:
        """From a prompt of tokens in the format of `epp.sim.tokens`; `block_size` in tokens."""
        block_bytes = block_size * tokens.TOKEN_BYTES
        root_hash = block_pool.root_hash(lora_name, cache_salt)
        block_hashes = block_pool.hash_full_blocks(prompt, block_bytes, root_hash)
        return cls(
            request_id=request_id,
            prompt_tokens=tokens.count_tokens(prompt),
            block_hashes=block_hashes,
            partial_block=prompt[len(block_hashes) * block_bytes :],
            max_tokens=max_tokens,
            stop_length=stop_length,
            seed=seed,
            lora_name=lora_name,
            root_hash=root_hash,
            listener=listener,
        )

    @property
    def total_tokens(self) -> int:
        """Tokens of the prompt and of the output so far."""
        return self.prompt_tokens + self.output_tokens

    def append_token(self, block_bytes: int) -> None:
        """Adds the next output token, and the hash of the block that it completes, if any."""
        self.partial_block += tokens.answer_token(self.seed, self.output_tokens).encode()
        self.output_tokens += 1
        if len(self.partial_block) >= block_bytes:
            parent = self.block_hashes[-1] if self.block_hashes else self.root_hash
            self.block_hashes.append(block_pool.hash_block(parent, bytes(self.partial_block)))
            self.partial_block.clear()
