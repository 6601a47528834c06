"""Columns: what is known of every endpoint, one float32 an endpoint.

NaN is unknown (never scraped, stale, or nobody produces it); zero is a measurement. Columns compare by
identity: declare one at module level and use that object.
"""

from __future__ import annotations

from typing import Any, Self


class _DataKeyBase:
    """`of` and `producer`: what `told_by` was asked of, and for whom; itself and empty otherwise."""

    __slots__ = ("_by_producer", "base", "description", "name", "producer", "unit")

    def __init__(self, name: str, unit: str, doc: str) -> None:
        self.name = name
        self.unit = unit
        self.description = doc
        self.base: Any = self
        self.producer = ""
        self._by_producer: dict[str, Self] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def from_producer(self, producer: str) -> Self:
        """The same as the producer of that name in the configuration tells it; of no name, itself.

        For plugins with a parameter `…ProducerName`, where several producers give the same.
        """
        if not producer:
            return self
        told = self._by_producer.get(producer)
        if told is None:
            told = self._by_producer[producer] = type(self)(f"{self.name}/{producer}", self.unit, self.description)
            told.base, told.producer = self, producer
        return told


class Column(_DataKeyBase):
    """A named quantity with a unit, known per endpoint."""

    __slots__ = ()


class RequestAttribute(_DataKeyBase):
    """A named value known once per request, produced by one producer and read with `request[FACT]`."""

    __slots__ = ()


# Scraped from the model server; aged to NaN when stale.
WAITING_REQUESTS = Column("waiting", "requests", "requests that wait for their first step")
RUNNING_REQUESTS = Column("running", "requests", "requests in the running batch")
KV_CACHE_USAGE = Column("kv_usage", "fraction", "share of the KV cache blocks in use, 0 to 1")
KV_BLOCK_SIZE = Column("block_size", "tokens", "tokens in one KV cache block")
KV_BLOCK_COUNT = Column("block_count", "blocks", "KV cache blocks of the engine")
MAX_LORAS = Column("max_lora", "adapters", "adapters that fit in one batch")

# Counted here, exact at any moment: what we routed and have not seen the end of.
INFLIGHT_REQUESTS = Column("inflight_requests", "requests", "requests routed here and not yet over")
INFLIGHT_TOKENS = Column(
    "inflight_tokens", "tokens", "uncached prompt tokens (and expected output, if asked for) of requests in flight"
)
DECODING_REQUESTS = Column("decoding", "sequences", "requests in flight whose first byte has been seen")

# Produced per request.
PREFIX_MATCH_BLOCKS = Column("prefix_blocks", "blocks", "leading blocks of this prompt that the endpoint holds")
UNCACHED_TOKENS = Column("uncached_tokens", "tokens", "prompt tokens that the endpoint would have to compute")

SCRAPED_COLUMNS = (WAITING_REQUESTS, RUNNING_REQUESTS, KV_CACHE_USAGE, KV_BLOCK_SIZE, KV_BLOCK_COUNT, MAX_LORAS)
LEDGER_COLUMNS = (INFLIGHT_REQUESTS, INFLIGHT_TOKENS, DECODING_REQUESTS)
