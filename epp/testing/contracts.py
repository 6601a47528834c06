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
    PREFIX_INFO,
    PROMPT,
    AsyncProducer,
    Column,
    Endpoint,
    Endpoints,
    Fact,
    Filter,
    Picker,
    Plugin,
    PrefixInfo,
    Producer,
    Prompt,
    Request,
    Scorer,
    Snapshot,
)
from epp.testing.builders import COLUMNS, endpoint

SIZES: Final = (0, 1, 2, 7, 40)
FACTS: Final[Mapping[Fact, Any]] = {
    PREFIX_INFO: PrefixInfo(total=32, block_tokens=64),
    PROMPT: Prompt(data=bytes(range(256)) * 32, tokens=2048),
}
ROLES: Final[Sequence[Mapping[str, str]]] = (
    {},
    {"llm-d.ai/role": "decode"},
    {"llm-d.ai/role": "prefill"},
    {"llm-d.ai/role": "both", "zone": "a"},
)
Labels = Sequence[Mapping[str, str]]


def check_scorer(scorer: Scorer, *, facts: Mapping[Fact, Any] | None = None, labels: Labels = ROLES) -> None:
    """float32[n] in [0, 1] or NaN, the same whatever the order; one unknown value spoils no other score."""
    trial = _Trial(scorer, facts, labels)

    def call(pool: Endpoints, request: Request) -> Any:
        return scorer.score(request, pool)

    for n in SIZES:
        scores = trial.call(call, trial.pool(n))
        _check_scores(trial, scores, n)
        trial.same("scores", scores, trial.call(call, trial.pool(n)))
        order = trial.shuffled(n)
        trial.same("scores of reordered endpoints", scores[order], trial.call(call, trial.pool(n, order=order)))
    for column in _columns(scorer):
        scores = trial.call(call, trial.pool(7, unknown=(column, 3)))
        others = np.delete(scores, 3)
        trial.expect(
            bool(np.isfinite(others).all()),
            f"one endpoint's unknown {column.name} spoils the scores of others: {others}",
        )
        _check_scores(trial, trial.call(call, trial.pool(7, unknown=(column, slice(None)))), 7)
    _check_scores(trial, trial.call(call, trial.pool(7), facts={}), 7)


def check_filter(filter: Filter, *, facts: Mapping[Fact, Any] | None = None, labels: Labels = ROLES) -> None:
    """bool[n], the same for the same input, whatever the order; unknown values raise nothing."""
    trial = _Trial(filter, facts, labels)

    def call(pool: Endpoints, request: Request) -> Any:
        return filter.keep(request, pool)

    for n in SIZES:
        mask = trial.call(call, trial.pool(n))
        trial.array("mask", mask, n, "b")
        trial.same("mask", mask, trial.call(call, trial.pool(n)))
        order = trial.shuffled(n)
        trial.same("mask of reordered endpoints", mask[order], trial.call(call, trial.pool(n, order=order)))
    for column in _columns(filter):
        trial.array("mask", trial.call(call, trial.pool(7, unknown=(column, slice(None)))), 7, "b")
    trial.array("mask", trial.call(call, trial.pool(7), facts={}), 7, "b")


def check_picker(picker: Picker, *, facts: Mapping[Fact, Any] | None = None) -> None:
    """Positions in range, each once, as many as asked for and there are; the same for the same seed."""
    trial = _Trial(picker, facts, ROLES)
    for n in SIZES:
        for totals in (trial.random(n, 3.0), np.zeros(n, np.float32), np.full(n, 2.5, np.float32)):
            before = totals.copy()
            totals.flags.writeable = False

            def call(pool: Endpoints, request: Request, totals: NDArray[np.float32] = totals) -> Any:
                return picker.pick(request, pool, totals, Random(7))

            order = trial.call(call, trial.pool(n))
            trial.expect(isinstance(order, np.ndarray) and order.dtype.kind == "i", f"order is {order!r}, not Order")
            positions = order.tolist()
            wanted = min(n, picker.max_num_of_endpoints)
            trial.expect(len(positions) == wanted, f"{len(positions)} of {n} endpoints picked, not {wanted}")
            trial.expect(all(0 <= each < n for each in positions), f"{positions} is out of range for {n} endpoints")
            trial.expect(len(set(positions)) == len(positions), f"{positions} names an endpoint twice")
            trial.same("order with the same seed", order, trial.call(call, trial.pool(n)))
            trial.same("totals afterwards", totals, before)


def check_producer(
    producer: Producer | AsyncProducer, *, facts: Mapping[Fact, Any] | None = None, labels: Labels = ROLES
) -> None:
    """Nothing but what `gives` promises; columns float32[n], the same whatever the order. Asynchronous ones too."""
    trial = _Trial(producer, facts, labels)

    def call(pool: Endpoints, request: Request) -> Any:
        produced: Any = producer.produce(request, pool)
        return asyncio.run(_awaited(produced)) if inspect.isawaitable(produced) else produced

    for n in SIZES:
        produced = trial.call(call, trial.pool(n))
        extra = set(produced) - set(producer.gives)
        trial.expect(not extra, f"gives {extra}, which `gives` does not promise")
        order = trial.shuffled(n)
        again = trial.call(call, trial.pool(n, order=order))
        for key, value in produced.items():
            if isinstance(key, Column):
                trial.array(key.name, value, n, "f")
                trial.same(f"{key.name} of reordered endpoints", value[order], again[key])
    for column in _columns(producer):
        trial.call(call, trial.pool(7, unknown=(column, slice(None))))
    trial.call(call, trial.pool(7), facts={})


async def _awaited(produced: Any) -> Any:
    return await produced


def _check_scores(trial: _Trial, scores: Any, n: int) -> None:
    trial.array("scores", scores, n, "f")
    known = scores[~np.isnan(scores)]
    trial.expect(bool(((known >= 0) & (known <= 1)).all()), f"scores outside [0, 1]: {known}")


def _columns(plugin: Plugin) -> list[Column]:
    return [need for need in plugin.wants() if isinstance(need, Column)]


class _Watched(Endpoints):
    """Endpoints that note which columns are read."""

    __slots__ = ("read",)

    def __init__(self, snapshot: Snapshot, slots: NDArray[np.intp]) -> None:
        super().__init__(snapshot, slots)
        self.read: set[Column | Fact] = set()

    def __getitem__(self, column: Column) -> NDArray[np.float32]:
        self.read.add(column)
        return super().__getitem__(column)


class _WatchedRequest(Request):
    """A request that notes which facts are read."""

    read: set[Column | Fact] = msgspec.field(default_factory=set)

    @classmethod
    def of(cls, facts: Mapping[Fact, Any]) -> _WatchedRequest:
        return cls(id="r", path="/v1/completions", model="m", text=b"once upon a time", body=b"{}", facts=dict(facts))

    def __getitem__(self, fact: Fact) -> Any:
        self.read.add(fact)
        return super().__getitem__(fact)


class _Trial:
    """One plugin under examination. Endpoints sit at scattered slots, so that slot and position cannot be confused."""

    def __init__(self, plugin: Plugin, facts: Mapping[Fact, Any] | None, labels: Labels) -> None:
        self._plugin = plugin
        self._facts = {**FACTS, **(facts or {})}
        self._labels = labels
        self._rng = np.random.default_rng(11)

    def expect(self, holds: bool, message: str) -> None:
        if not holds:
            raise AssertionError(f"{type(self._plugin).__name__} ({self._plugin.type or 'no type'}): {message}")

    def array(self, what: str, value: Any, n: int, kind: str) -> None:
        self.expect(isinstance(value, np.ndarray), f"{what}: {type(value).__name__}, not an array")
        self.expect(value.shape == (n,), f"{what}: shape {value.shape}, not ({n},)")
        self.expect(value.dtype.kind == kind, f"{what}: dtype {value.dtype}")

    def same(self, what: str, one: Any, other: Any) -> None:
        alike = one.shape == other.shape and np.allclose(one, other, rtol=1e-6, equal_nan=one.dtype.kind == "f")
        self.expect(bool(alike), f"{what} differ: {one} and {other}")

    def random(self, n: int, high: float) -> NDArray[np.float32]:
        return np.random.default_rng(n).uniform(0, high, n).astype(np.float32)

    def shuffled(self, n: int) -> NDArray[np.intp]:
        return self._rng.permutation(n)

    def pool(
        self, n: int, *, order: NDArray[np.intp] | None = None, unknown: tuple[Column, int | slice] | None = None
    ) -> _Watched:
        slots = np.arange(n) * 2 + 1
        known: list[Endpoint | None] = [None] * (2 * n + 1)
        for i, slot in enumerate(slots.tolist()):
            known[slot] = endpoint(i, self._labels[i % len(self._labels)])
        columns = {}
        for column in {*COLUMNS.values(), *_columns(self._plugin)}:
            values = np.full(2 * n + 1, np.nan, np.float32)
            fresh = np.random.default_rng([n, *column.name.encode()]).uniform(0, 1, n)
            values[slots] = fresh if column.unit == "fraction" else np.floor(fresh * 32)
            if unknown is not None and unknown[0] is column:
                values[slots[unknown[1]]] = np.nan
            values.flags.writeable = False
            columns[column] = values
        return _Watched(Snapshot(columns, known, slots), slots if order is None else slots[order])

    def call(
        self, run: Callable[[Endpoints, Request], Any], pool: _Watched, facts: Mapping[Fact, Any] | None = None
    ) -> Any:
        request = _WatchedRequest.of(self._facts if facts is None else facts)
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
            self.expect(untouched, f"writes to the column {column.name}")
        undeclared = (pool.read | request.read) - set(self._plugin.wants())
        names = ", ".join(sorted(each.name for each in undeclared))
        self.expect(not undeclared, f"reads {names} without naming it in `needs`")
        return found


__all__ = ["check_filter", "check_picker", "check_producer", "check_scorer"]
