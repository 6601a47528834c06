"""One request inside an engine."""

from __future__ import annotations

from typing import Protocol

from epp.sim import block_pool, tokens


class ProgressListener(Protocol):
    """Who wants to know that a sequence got a token or ended. Must not block."""

    def on_progress(self) -> None: ...


class SimRequest:
    """What the engine knows of a request; made by the client, changed by the engine only.

    `hashes` are those of the full blocks so far, prompt and answer; `tail` holds the tokens after them. `stop_at` is
    the length of an answer that ends by itself, at most `max_tokens`. `finish` is empty while it runs, then "stop",
    "length" or "abort". `root` is what the first block is chained to. Times are the engine's seconds, None until they
    are known.
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
        id: str,
        prompt_tokens: int,
        hashes: list[int],
        tail: bytes = b"",
        max_tokens: int,
        stop_at: int | None = None,
        seed: int = 0,
        adapter: str = "",
        root: int = block_pool.ROOT_HASH,
        listener: ProgressListener | None = None,
    ) -> None:
        self.request_id = id
        self.prompt_tokens = prompt_tokens
        self.block_hashes = hashes
        self.partial_block = bytearray(tail)
        self.max_tokens = max_tokens
        self.stop_length = max_tokens if stop_at is None else min(stop_at, max_tokens)
        self.seed = seed
        self.lora_name = adapter
        self.root_hash = root
        self.listener = listener
        self.blocks: list[int] = []
        self.cached_blocks = 0  # leading blocks that others can find
        self.computed_tokens = 0  # tokens whose KV exists
        self.output_tokens = 0
        self.cached_tokens = 0
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
        id: str,
        max_tokens: int,
        stop_at: int | None = None,
        seed: int = 0,
        adapter: str = "",
        salt: str = "",
        listener: ProgressListener | None = None,
    ) -> SimRequest:
        """From prompt tokens as `epp.sim.tokens` makes them."""
        width = block_size * tokens.TOKEN_BYTES
        root = block_pool.root_hash(adapter, salt)
        hashes = block_pool.hash_full_blocks(prompt, width, root)
        return cls(
            id=id,
            prompt_tokens=tokens.count_tokens(prompt),
            hashes=hashes,
            tail=prompt[len(hashes) * width :],
            max_tokens=max_tokens,
            stop_at=stop_at,
            seed=seed,
            adapter=adapter,
            root=root,
            listener=listener,
        )

    @property
    def total_tokens(self) -> int:
        """Prompt and answer so far."""
        return self.prompt_tokens + self.output_tokens

    def append_token(self, block_bytes: int) -> None:
        """The next token of the answer; closes a block when it fills one."""
        self.partial_block += tokens.answer_token(self.seed, self.output_tokens).encode()
        self.output_tokens += 1
        if len(self.partial_block) >= block_bytes:
            parent = self.block_hashes[-1] if self.block_hashes else self.root_hash
            self.block_hashes.append(block_pool.hash_block(parent, bytes(self.partial_block)))
            self.partial_block.clear()
