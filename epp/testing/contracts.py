"""What every plugin must do, checked. `AssertionError` says which plugin broke which rule.

    def test_contract():
        check_scorer(QueueDepth())

Facts that are not epp.api's own must be given as `facts`, or the plugin sees None.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from epp.api import (
    PREFIX_MATCH_INFO,
    PROMPT,
    AsyncProducer,
    Column,
    Endpoint,
    Endpoints,
    Filter,
    Picker,
    Plugin,
    PrefixMatchInfo,
    Producer,
    Request,
    RequestAttribute,
    Scorer,
    Snapshot,
    TokenizedPrompt,
)
from epp.testing.builders import COLUMNS_BY_NAME, build_endpoint

POOL_SIZES: Final = (0, 1, 2, 7, 40)
DEFAULT_ATTRIBUTES: Final[Mapping[RequestAttribute, Any]] = {
    PREFIX_MATCH_INFO: PrefixMatchInfo(total_blocks=32, block_size_tokens=64),
    PROMPT: TokenizedPrompt(data=bytes(range(256)) * 32, token_count=2048),
}
DEFAULT_LABELS: Final[Sequence[Mapping[str, str]]] = (
    {},
    {"llm-d.ai/role": "decode"},
    {"llm-d.ai/role": "prefill"},
    {"llm-d.ai/role": "both", "zone": "a"},
)
Labels = Sequence[Mapping[str, str]]


def check_scorer(
    scorer: Scorer, *, facts: Mapping[RequestAttribute, Any] | None = None, labels: Labels = DEFAULT_LABELS
) -> None:
    """float32[n] in [0, 1] or NaN, the same whatever the order; one unknown value spoils no other score."""
    trial = _ContractCheck(scorer, facts, labels)

    def call(pool: Endpoints, request: Request) -> Any:
        return scorer.score(request, pool)

    for n in POOL_SIZES:
        scores = trial.run_plugin(call, trial.build_pool(n))
        _check_scores(trial, scores, n)
        trial.require_equal("scores", scores, trial.run_plugin(call, trial.build_pool(n)))
        order = trial.random_order(n)
        trial.require_equal(
            "scores of reordered endpoints", scores[order], trial.run_plugin(call, trial.build_pool(n, order=order))
        )
    for column in _consumed_columns(scorer):
        scores = trial.run_plugin(call, trial.build_pool(7, unknown=(column, 3)))
        others = np.delete(scores, 3)
        trial.require(
            bool(np.isfinite(others).all()),
            f"one endpoint's unknown {column.name} spoils the scores of others: {others}",
        )
        _check_scores(trial, trial.run_plugin(call, trial.build_pool(7, unknown=(column, slice(None)))), 7)
    _check_scores(trial, trial.run_plugin(call, trial.build_pool(7), facts={}), 7)


def check_filter(
    filter: Filter, *, facts: Mapping[RequestAttribute, Any] | None = None, labels: Labels = DEFAULT_LABELS
) -> None:
    """bool[n], the same for the same input, whatever the order; unknown values raise nothing."""
    trial = _ContractCheck(filter, facts, labels)

    def call(pool: Endpoints, request: Request) -> Any:
        return filter.filter(request, pool)

    for n in POOL_SIZES:
        mask = trial.run_plugin(call, trial.build_pool(n))
        trial.require_array("mask", mask, n, "b")
        trial.require_equal("mask", mask, trial.run_plugin(call, trial.build_pool(n)))
        order = trial.random_order(n)
        trial.require_equal(
            "mask of reordered endpoints", mask[order], trial.run_plugin(call, trial.build_pool(n, order=order))
        )
    for column in _consumed_columns(filter):
        trial.require_array("mask", trial.run_plugin(call, trial.build_pool(7, unknown=(column, slice(None)))), 7, "b")
    trial.require_array("mask", trial.run_plugin(call, trial.build_pool(7), facts={}), 7, "b")


def check_picker(picker: Picker, *, facts: Mapping[RequestAttribute, Any] | None = None) -> None:
    """Positions in range, each once, as many as asked for and there are; the same for the same seed."""
    trial = _ContractCheck(picker, facts, DEFAULT_LABELS)
    for n in POOL_SIZES:
        for totals in (trial.random_totals(n, 3.0), np.zeros(n, np.float32), np.full(n, 2.5, np.float32)):
            before = totals.copy()
            totals.flags.writeable = False

            def call(pool: Endpoints, request: Request, totals: NDArray[np.float32] = totals) -> Any:
                return picker.pick(request, pool, totals, Random(7))

            order = trial.run_plugin(call, trial.build_pool(n))
            trial.require(isinstance(order, np.ndarray) and order.dtype.kind == "i", f"order is {order!r}, not Order")
            positions = order.tolist()
            wanted = min(n, picker.max_num_of_endpoints)
            trial.require(len(positions) == wanted, f"{len(positions)} of {n} endpoints picked, not {wanted}")
            trial.require(all(0 <= each < n for each in positions), f"{positions} is out of range for {n} endpoints")
            trial.require(len(set(positions)) == len(positions), f"{positions} names an endpoint twice")
            trial.require_equal("order with the same seed", order, trial.run_plugin(call, trial.build_pool(n)))
            trial.require_equal("totals afterwards", totals, before)


def check_producer(
    producer: Producer | AsyncProducer,
    *,
    facts: Mapping[RequestAttribute, Any] | None = None,
    labels: Labels = DEFAULT_LABELS,
) -> None:
    """Nothing but what `gives` promises; columns float32[n], the same whatever the order. Asynchronous ones too."""
    trial = _ContractCheck(producer, facts, labels)

    def call(pool: Endpoints, request: Request) -> Any:
        produced: Any = producer.produce(request, pool)
        return asyncio.run(_await_result(produced)) if inspect.isawaitable(produced) else produced

    for n in POOL_SIZES:
        produced = trial.run_plugin(call, trial.build_pool(n))
        extra = set(produced) - set(producer.produces)
        trial.require(not extra, f"gives {extra}, which `gives` does not promise")
        order = trial.random_order(n)
        again = trial.run_plugin(call, trial.build_pool(n, order=order))
        for key, value in produced.items():
            if isinstance(key, Column):
                trial.require_array(key.name, value, n, "f")
                trial.require_equal(f"{key.name} of reordered endpoints", value[order], again[key])
    for column in _consumed_columns(producer):
        trial.run_plugin(call, trial.build_pool(7, unknown=(column, slice(None))))
    trial.run_plugin(call, trial.build_pool(7), facts={})


async def _await_result(produced: Any) -> Any:
    return await produced


def _check_scores(trial: _ContractCheck, scores: Any, n: int) -> None:
    trial.require_array("scores", scores, n, "f")
    known = scores[~np.isnan(scores)]
    trial.require(bool(((known >= 0) & (known <= 1)).all()), f"scores outside [0, 1]: {known}")


def _consumed_columns(plugin: Plugin) -> list[Column]:
    return [need for need in plugin.consumes if isinstance(need, Column)]


class _RecordingEndpoints(Endpoints):
    """Endpoints that note which columns are read."""

    __slots__ = ("read_keys",)

    def __init__(self, snapshot: Snapshot, slots: NDArray[np.intp]) -> None:
        super().__init__(snapshot, slots)
        self.read_keys: set[Column | RequestAttribute] = set()

    def __getitem__(self, column: Column) -> NDArray[np.float32]:
        self.read_keys.add(column)
        return super().__getitem__(column)


class _RecordingRequest(Request):
    """A request that notes which facts are read."""

    read_keys: set[Column | RequestAttribute] = msgspec.field(default_factory=set)

    @classmethod
    def with_attributes(cls, facts: Mapping[RequestAttribute, Any]) -> _RecordingRequest:
        return cls(
            id="r", path="/v1/completions", model="m", text=b"once upon a time", body=b"{}", attributes=dict(facts)
        )

    def __getitem__(self, fact: RequestAttribute) -> Any:
        self.read_keys.add(fact)
        return super().__getitem__(fact)


class _ContractCheck:
    """One plugin under examination. Endpoints sit at scattered slots, so that slot and position cannot be confused."""

    def __init__(self, plugin: Plugin, facts: Mapping[RequestAttribute, Any] | None, labels: Labels) -> None:
        self._plugin = plugin
        self._attributes = {**DEFAULT_ATTRIBUTES, **(facts or {})}
        self._labels = labels
        self._rng = np.random.default_rng(11)

    def require(self, holds: bool, message: str) -> None:
        if not holds:
            raise AssertionError(f"{type(self._plugin).__name__} ({self._plugin.type or 'no type'}): {message}")

    def require_array(self, what: str, value: Any, n: int, kind: str) -> None:
        self.require(isinstance(value, np.ndarray), f"{what}: {type(value).__name__}, not an array")
        self.require(value.shape == (n,), f"{what}: shape {value.shape}, not ({n},)")
        self.require(value.dtype.kind == kind, f"{what}: dtype {value.dtype}")

    def require_equal(self, what: str, one: Any, other: Any) -> None:
        alike = one.shape == other.shape and np.allclose(one, other, rtol=1e-6, equal_nan=one.dtype.kind == "f")
        self.require(bool(alike), f"{what} differ: {one} and {other}")

    def random_totals(self, n: int, high: float) -> NDArray[np.float32]:
        return np.random.default_rng(n).uniform(0, high, n).astype(np.float32)

    def random_order(self, n: int) -> NDArray[np.intp]:
        return self._rng.permutation(n)

    def build_pool(
        self, n: int, *, order: NDArray[np.intp] | None = None, unknown: tuple[Column, int | slice] | None = None
    ) -> _RecordingEndpoints:
        slots = np.arange(n) * 2 + 1
        known: list[Endpoint | None] = [None] * (2 * n + 1)
        for i, slot in enumerate(slots.tolist()):
            known[slot] = build_endpoint(i, self._labels[i % len(self._labels)])
        columns = {}
        for column in {*COLUMNS_BY_NAME.values(), *_consumed_columns(self._plugin)}:
            values = np.full(2 * n + 1, np.nan, np.float32)
            fresh = np.random.default_rng([n, *column.name.encode()]).uniform(0, 1, n)
            values[slots] = fresh if column.unit == "fraction" else np.floor(fresh * 32)
            if unknown is not None and unknown[0] is column:
                values[slots[unknown[1]]] = np.nan
            values.flags.writeable = False
            columns[column] = values
        return _RecordingEndpoints(Snapshot(columns, known, slots), slots if order is None else slots[order])

    def run_plugin(
        self,
        run: Callable[[Endpoints, Request], Any],
        pool: _RecordingEndpoints,
        facts: Mapping[RequestAttribute, Any] | None = None,
    ) -> Any:
        request = _RecordingRequest.with_attributes(self._attributes if facts is None else facts)
        before = {column: values.copy() for column, values in pool._snapshot.columns.items()}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = run(pool, request)
        except Exception as error:
            raise AssertionError(
                f"{type(self._plugin).__name__} raised for {len(pool)} endpoints: {error.__class__.__name__}: {error}"
            ) from error
        for column, values in before.items():
            untouched = np.array_equal(values, pool._snapshot.columns[column], equal_nan=True)
            self.require(untouched, f"writes to the column {column.name}")
        undeclared = (pool.read_keys | request.read_keys) - set(self._plugin.consumes)
        names = ", ".join(sorted(each.name for each in undeclared))
        self.require(not undeclared, f"reads {names} without naming it in `needs`")
        return found


__all__ = ["check_filter", "check_picker", "check_producer", "check_scorer"]
