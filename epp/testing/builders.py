"""Endpoints and requests for tests, in one line each.

build_endpoints(waiting=[0, 4, 12], labels=[{"zone": "a"}, {}, {}])
build_request(text="once upon a time", model="small")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from epp.api import (
    LEDGER_COLUMNS,
    NO_LORA_ADAPTERS,
    PREFIX_MATCH_BLOCKS,
    SCRAPED_COLUMNS,
    UNCACHED_TOKENS,
    Column,
    Endpoint,
    Endpoints,
    LoraAdapters,
    Request,
    RequestAttribute,
    Snapshot,
    Values,
)

COLUMNS_BY_NAME: Final[Mapping[str, Column]] = {
    column.name: column for column in (*SCRAPED_COLUMNS, *LEDGER_COLUMNS, PREFIX_MATCH_BLOCKS, UNCACHED_TOKENS)
}
"""What `build_endpoints` accepts as keywords; other columns go into `columns`."""


def build_endpoint(position: int, labels: Mapping[str, str] | None = None) -> Endpoint:
    """The endpoint `e<position>` at 10.0.x.y:8000."""
    address = f"10.0.{position // 250}.{position % 250 + 1}"
    return Endpoint(name=f"e{position}", address=address, port=8000, labels=labels or {}, pod=f"e{position}")


def build_endpoints(
    count: int | None = None,
    *,
    labels: Sequence[Mapping[str, str]] | None = None,
    adapters: Sequence[LoraAdapters] | None = None,
    columns: Mapping[Column, Sequence[float] | Values] | None = None,
    **values: Sequence[float] | Values,
) -> Endpoints:
    """Endpoints e0, e1, … at slots 0, 1, …; every argument has one entry an endpoint, a column not given is NaN.

    Raises `TypeError` for a column that does not exist and `ValueError` for lengths that differ.
    """
    unknown = set(values) - set(COLUMNS_BY_NAME)
    if unknown:
        raise TypeError(
            f"no column {', '.join(sorted(unknown))}; there are {', '.join(COLUMNS_BY_NAME)}, others by `columns`"
        )
    given = {**{COLUMNS_BY_NAME[name]: entries for name, entries in values.items()}, **(columns or {})}
    lengths = {len(entries) for entries in given.values()}
    lengths |= {len(each) for each in (labels, adapters) if each is not None}
    lengths |= {count} if count is not None else set()
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    n = lengths.pop() if lengths else 0
    snapshot = Snapshot(
        columns={column: np.array(entries, np.float32) for column, entries in given.items()},
        endpoints=[build_endpoint(i, labels[i] if labels is not None else None) for i in range(n)],
        live_slots=np.arange(n),
        adapters=adapters if adapters is not None else [NO_LORA_ADAPTERS] * n,
    )
    return Endpoints(snapshot, snapshot.live_slots)


def build_request(
    *,
    text: str | bytes = b"",
    model: str = "",
    headers: Mapping[str, str] | None = None,
    attributes: Mapping[RequestAttribute, Any] | None = None,
    **fields: Any,
) -> Request:
    """A request with `attributes` as producers would have set them; `fields` are those of `epp.api.Request`."""
    encoded = text.encode() if isinstance(text, str) else text
    return Request(text=encoded, model=model, headers=headers or {}, attributes=dict(attributes or {}), **fields)
