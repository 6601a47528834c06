"""One request inside an engine."""

from __future__ import annotations

from typing import Protocol

from epp.sim import blocks, tokens


class Listener(Protocol):
    """Who wants to know that a sequence got a token or ended. Must not block."""

    def progressed(self) -> None: ...


class Sequence:
    """What the engine knows of a request; made by the client, changed by the engine only.

    `hashes` are those of the full blocks so far, prompt and answer; `tail` holds the tokens after them. `stop_at` is
    the length of an answer that ends by itself, at most `max_tokens`. `finish` is empty while it runs, then "stop",
    "length" or "abort". `root` is what the first block is chained to. Times are the engine's seconds, None until they
    are known.
    """

    __slots__ = (
        "adapter",
        "arrived_at",
        "blocks",
        "cached_tokens",
        "computed",
        "finish",
        "first_token_at",
        "generated",
        "hashes",
        "id",
        "last_token_at",
        "listener",
        "max_tokens",
        "preemptions",
        "prompt_tokens",
        "root",
        "scheduled_at",
        "seed",
        "stop_at",
        "stored",
        "tail",
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
        root: int = blocks.ROOT,
        listener: Listener | None = None,
    ) -> None:
        self.id = id
        self.prompt_tokens = prompt_tokens
        self.hashes = hashes
        self.tail = bytearray(tail)
        self.max_tokens = max_tokens
        self.stop_at = max_tokens if stop_at is None else min(stop_at, max_tokens)
        self.seed = seed
        self.adapter = adapter
        self.root = root
        self.listener = listener
        self.blocks: list[int] = []
        self.stored = 0  # leading blocks that others can find
        self.computed = 0  # tokens whose KV exists
        self.generated = 0
        self.cached_tokens = 0
        self.preemptions = 0
        self.finish = ""
        self.arrived_at = 0.0
        self.scheduled_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None

    @classmethod
    def of_prompt(
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
        listener: Listener | None = None,
    ) -> Sequence:
        """From prompt tokens as `epp.sim.tokens` makes them."""
        width = block_size * tokens.WIDTH
        root = blocks.root(adapter, salt)
        hashes = blocks.chained(prompt, width, root)
        return cls(
            id=id,
            prompt_tokens=tokens.count(prompt),
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
    def tokens(self) -> int:
        """Prompt and answer so far."""
        return self.prompt_tokens + self.generated

    def grow(self, block_bytes: int) -> None:
        """The next token of the answer; closes a block when it fills one."""
        self.tail += tokens.piece(self.seed, self.generated).encode()
        self.generated += 1
        if len(self.tail) >= block_bytes:
            parent = self.hashes[-1] if self.hashes else self.root
            self.hashes.append(blocks.chain(parent, bytes(self.tail)))
            self.tail.clear()
