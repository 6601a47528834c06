"""Keys of the data that plugins exchange: `Column` for values per endpoint, `RequestAttribute` for values per request.

A column is a float32 array with one entry an endpoint. NaN means unknown: never scraped, stale, or not produced for
this request; zero is a measurement. Each column has one writer: the scrape, the in-flight ledger, or one producer. Keys
compare by identity: declare one at module level and use that object.
"""

from __future__ import annotations

from typing import Any, Self


class _DataKeyBase:
    """A key with its name, unit and description, for one producer or for any.

    `producer` is the configured name of the producer whose output the key stands for, `base` the same key for any
    producer. A key that is not bound to a producer is its own base, and its `producer` is "".
    """

    __slots__ = ("_by_producer", "base", "description", "name", "producer", "unit")

    def __init__(self, name: str, unit: str, description: str) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self.base: Any = self
        self.producer = ""
        self._by_producer: dict[str, Self] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def from_producer(self, producer: str) -> Self:
        """This key as written by the producer with that configured name; returns self for "".

        For plugins with a parameter `…ProducerName`, where several producers write the same key. Always the same object
        for the same name.
        """
        if not producer:
            return self
        bound = self._by_producer.get(producer)
        if bound is None:
            bound = self._by_producer[producer] = type(self)(f"{self.name}/{producer}", self.unit, self.description)
            bound.base, bound.producer = self, producer
        return bound


class Column(_DataKeyBase):
    """A quantity that is known per endpoint; read with `endpoints[COLUMN]`."""

    __slots__ = ()


class RequestAttribute(_DataKeyBase):
    """A value that is known once per request, written by one producer; read with `request[ATTRIBUTE]`."""

    __slots__ = ()


# Scraped from the model server; NaN once older than `--metrics-staleness-threshold`. The comment names vLLM's metric.
WAITING_REQUESTS = Column("waiting", "requests", "requests that wait for their first step")  # num_requests_waiting
RUNNING_REQUESTS = Column("running", "requests", "requests in the running batch")  # num_requests_running
KV_CACHE_USAGE = Column("kv_usage", "fraction", "share of the KV cache blocks in use, 0 to 1")  # kv_cache_usage_perc
KV_BLOCK_SIZE = Column("block_size", "tokens", "tokens in one KV cache block")  # cache_config_info{block_size}
KV_BLOCK_COUNT = Column("block_count", "blocks", "KV cache blocks of the engine")  # cache_config_info{num_gpu_blocks}
MAX_LORAS = Column("max_lora", "adapters", "adapters that fit in one batch")  # lora_requests_info{max_lora}

# Counted by the in-flight ledger: exact at every moment for the requests that this picker routed.
INFLIGHT_REQUESTS = Column("inflight_requests", "requests", "requests routed to the endpoint and not yet over")
INFLIGHT_TOKENS = Column(
    "inflight_tokens", "tokens", "uncached prompt tokens (and expected output, if configured) of requests in flight"
)
DECODING_REQUESTS = Column("decoding", "sequences", "requests in flight whose first byte has been seen")

# Computed per request by producers.
PREFIX_MATCH_BLOCKS = Column("prefix_blocks", "blocks", "leading blocks of this prompt that the endpoint holds")
UNCACHED_TOKENS = Column("uncached_tokens", "tokens", "prompt tokens that the endpoint would have to compute")

SCRAPED_COLUMNS = (WAITING_REQUESTS, RUNNING_REQUESTS, KV_CACHE_USAGE, KV_BLOCK_SIZE, KV_BLOCK_COUNT, MAX_LORAS)
LEDGER_COLUMNS = (INFLIGHT_REQUESTS, INFLIGHT_TOKENS, DECODING_REQUESTS)
