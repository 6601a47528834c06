"""Contract checks for filters, scorers, pickers and producers.

    def test_contract():
        check_scorer(QueueScorer())

Each check calls the plugin with pools of several sizes, orders and missing values and raises an AssertionError that
names the plugin and the rule it broke. A request attribute that is not one of epp.api's own must be given in
`attributes`, otherwise the plugin reads None.
"""

from __future__ import annotations

import asyncio
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
    SCRAPED_COLUMNS,
    AsyncProducer,
    Column,
    DataKey,
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
from epp.config.plugin_kinds import find_data_key_problems, find_interface_problems
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

Attributes = Mapping[RequestAttribute, Any]
Labels = Sequence[Mapping[str, str]]
Call = Callable[[Endpoints, Request], Any]


class ContractCheck:
    """One plugin under examination: `require` names it in every failure.

    Creating the check already fails for an object of another kind than `interface`, and for a class that does not
    implement its interfaces (see `find_interface_problems`).
    """

    def __init__(self, plugin: Any, interface: type) -> None:
        self.plugin = plugin
        if isinstance(plugin, type):
            raise AssertionError(f"{plugin.__name__} is a class: pass an instance of it")
        for problem in find_interface_problems(type(plugin)):
            self.require(False, problem.message)
        self.require(isinstance(plugin, interface), f"does not inherit {interface.__name__}")
        for message in find_data_key_problems(plugin):
            self.require(False, message)

    def require(self, holds: bool, message: str) -> None:
        """AssertionError with the plugin's class and type unless `holds`."""
        if not holds:
            plugin_type = getattr(self.plugin, "type", "") or "no type"
            raise AssertionError(f"{type(self.plugin).__name__} ({plugin_type}): {message}")

    def require_no_error(self, situation: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `call(*arguments)`; an exception or a warning in it is a failure."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return call(*arguments)
        except Exception as error:
            name = type(self.plugin).__name__
            raise AssertionError(f"{name} raised {situation}: {error.__class__.__name__}: {error}") from error


def check_scorer(
    scorer: Scorer,
    *,
    attributes: Attributes | None = None,
    labels: Labels = DEFAULT_LABELS,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Checks that scores are float32[n] in [0, 1] or NaN and the same for any order of the endpoints.

    Some endpoint must have a score when all columns are known; a scorer whose scores depend on request headers needs
    them in `headers` for that. A value missing at one endpoint must leave the others their scores. A
    `request_independent` scorer must consume scraped columns only and give every request the same scores.
    """
    check = _EndpointsCheck(scorer, Scorer, attributes, labels, headers)
    has_scores = False

    def score(pool: Endpoints, request: Request) -> Any:
        return scorer.score(request, pool)

    for n in POOL_SIZES:
        scores = check.run_plugin(score, check.build_pool(n))
        _check_scores(check, scores, n)
        has_scores = has_scores or not np.isnan(scores).all()
        check.require_equal("scores", scores, check.run_plugin(score, check.build_pool(n)))
        order = check.random_order(n)
        reordered = check.run_plugin(score, check.build_pool(n, order=order))
        check.require_equal("scores of reordered endpoints", scores[order], reordered)
    check.require(
        has_scores,
        "the score of every endpoint is NaN, although all columns are known: if the scorer reads labels, request "
        "attributes or headers, pass them to check_scorer() as `labels`, `attributes` or `headers`",
    )
    for column in check.consumed_columns():
        scores = check.run_plugin(score, check.build_pool(7, unknown=(column, 3)))
        others = np.delete(scores, 3)
        check.require(
            bool(np.isfinite(others).all()),
            f"one endpoint's unknown {column.name} spoils the scores of others: {others}",
        )
        _check_scores(check, check.run_plugin(score, check.build_pool(7, unknown=(column, slice(None)))), 7)
    _check_scores(check, check.run_plugin(score, check.build_pool(7), attributes={}), 7)
    if scorer.request_independent:
        foreign = ", ".join(key.name for key in scorer.consumes if key not in SCRAPED_COLUMNS)
        check.require(not foreign, f"is request_independent, but consumes {foreign}, which is not a scraped column")
        one, other = (
            check.run_plugin(score, check.build_pool(7), request=request)
            for request in (Request(id="1", model="m", text=b"short"), Request(id="2", model="n", text=b"long" * 999))
        )
        check.require_equal("request_independent, but scores of two requests", one, other)


def check_filter(filter: Filter, *, attributes: Attributes | None = None, labels: Labels = DEFAULT_LABELS) -> None:
    """Checks that masks are bool[n], equal for equal input in any order, and that missing values raise nothing."""
    check = _EndpointsCheck(filter, Filter, attributes, labels)

    def keep(pool: Endpoints, request: Request) -> Any:
        return filter.filter(request, pool)

    for n in POOL_SIZES:
        mask = check.run_plugin(keep, check.build_pool(n))
        check.require_array("mask", mask, n, np.bool_)
        check.require_equal("mask", mask, check.run_plugin(keep, check.build_pool(n)))
        order = check.random_order(n)
        reordered = check.run_plugin(keep, check.build_pool(n, order=order))
        check.require_equal("mask of reordered endpoints", mask[order], reordered)
    for column in check.consumed_columns():
        mask = check.run_plugin(keep, check.build_pool(7, unknown=(column, slice(None))))
        check.require_array("mask", mask, 7, np.bool_)
    check.require_array("mask", check.run_plugin(keep, check.build_pool(7), attributes={}), 7, np.bool_)


def check_picker(picker: Picker, *, attributes: Attributes | None = None) -> None:
    """Checks that positions are in range, each once, as many as asked for, and the same for the same seed."""
    check = _EndpointsCheck(picker, Picker, attributes, DEFAULT_LABELS)
    for n in POOL_SIZES:
        for totals in (check.random_totals(n, 3.0), np.zeros(n, np.float32), np.full(n, 2.5, np.float32)):
            before = totals.copy()
            totals.flags.writeable = False

            def pick(pool: Endpoints, request: Request, totals: NDArray[np.float32] = totals) -> Any:
                return picker.pick(request, pool, totals, Random(7))

            picked = check.run_plugin(pick, check.build_pool(n))
            is_positions = isinstance(picked, np.ndarray) and picked.dtype.kind == "i"
            check.require(is_positions, f"pick() returned {picked!r}: an array of integers (Positions) is expected")
            positions = picked.tolist()
            expected = min(n, picker.max_num_of_endpoints)
            check.require(len(positions) == expected, f"{len(positions)} of {n} endpoints picked, not {expected}")
            check.require(all(0 <= each < n for each in positions), f"{positions} is out of range for {n} endpoints")
            check.require(len(set(positions)) == len(positions), f"{positions} names an endpoint twice")
            check.require_equal("positions with the same seed", picked, check.run_plugin(pick, check.build_pool(n)))
            check.require_equal("totals afterwards", totals, before)


def check_producer(
    producer: Producer, *, attributes: Attributes | None = None, labels: Labels = DEFAULT_LABELS
) -> None:
    """Checks that the outputs are those that `produces` lists, columns float32[n] for any order of the endpoints.

    Calls must be repeatable: a request may be rejected after its producers ran. Every key of `produces` must be
    produced for at least one of the pools.
    """
    check = _EndpointsCheck(producer, Producer, attributes, labels)
    _check_outputs(check, lambda pool, request: producer.produce(request, pool))


def check_async_producer(
    producer: AsyncProducer, *, attributes: Attributes | None = None, labels: Labels = DEFAULT_LABELS
) -> None:
    """Checks what `check_producer` does, that overlapping calls agree, and that a waiting call can be cancelled.

    The call is cancelled at the first point where it waits, if it waits at all.
    """
    check = _EndpointsCheck(producer, AsyncProducer, attributes, labels)

    async def produce_twice(pool: Endpoints, request: Request) -> tuple[Any, Any]:
        one, other = await asyncio.gather(producer.produce(request, pool), producer.produce(request, pool))
        return one, other

    async def cancel(pool: Endpoints, request: Request) -> bool:
        """Whether the call ended, by itself or by its cancellation."""
        call = asyncio.ensure_future(producer.produce(request, pool))  # noqa: TID251
        await asyncio.sleep(0)
        if call.done():
            return True
        call.cancel()
        await asyncio.wait([call], timeout=1.0)
        return call.cancelled()

    _check_outputs(check, lambda pool, request: asyncio.run(_await_result(producer.produce(request, pool))))
    one, other = check.run_plugin(lambda pool, request: asyncio.run(produce_twice(pool, request)), check.build_pool(7))
    for key, value in one.items():
        if isinstance(key, Column):
            check.require_equal(f"{key.name} of two calls at once", value, other[key])
    cancelled = check.run_plugin(lambda pool, request: asyncio.run(cancel(pool, request)), check.build_pool(7))
    check.require(cancelled, "swallows its cancellation: a late call would hold up the decision")


async def _await_result(produced: Any) -> Any:
    return await produced


def _check_outputs(check: _EndpointsCheck, produce: Call) -> None:
    produces: tuple[DataKey, ...] = check.plugin.produces
    missing = set(produces)
    for n in POOL_SIZES:
        produced = check.run_plugin(produce, check.build_pool(n))
        extra = ", ".join(sorted(key.name for key in set(produced) - set(produces)))
        check.require(not extra, f"produces {extra}, which `produces` does not list")
        missing -= produced.keys()
        again = check.run_plugin(produce, check.build_pool(n))
        order = check.random_order(n)
        reordered = check.run_plugin(produce, check.build_pool(n, order=order))
        for key, value in produced.items():
            if isinstance(key, Column):
                check.require_array(key.name, value, n, np.float32)
                check.require(not np.isinf(value).any(), f"{key.name} is infinite: {value}")
                check.require_equal(f"{key.name} of a second call", value, again[key])
                check.require_equal(f"{key.name} of reordered endpoints", value[order], reordered[key])
    for column in check.consumed_columns():
        check.run_plugin(produce, check.build_pool(7, unknown=(column, slice(None))))
    check.run_plugin(produce, check.build_pool(7), attributes={})
    check.require(not missing, f"never produces {', '.join(sorted(key.name for key in missing))}")


def _check_scores(check: _EndpointsCheck, scores: Any, n: int) -> None:
    check.require_array("scores", scores, n, np.float32)
    known = scores[~np.isnan(scores)]
    check.require(bool(((known >= 0) & (known <= 1)).all()), f"scores outside [0, 1]: {known}")


class _RecordingEndpoints(Endpoints):
    """Endpoints that record which columns are read."""

    __slots__ = ("read_keys",)

    def __init__(self, snapshot: Snapshot, slots: NDArray[np.intp]) -> None:
        super().__init__(snapshot, slots)
        self.read_keys: set[DataKey] = set()

    def __getitem__(self, column: Column) -> NDArray[np.float32]:
        self.read_keys.add(column)
        return super().__getitem__(column)


class _RecordingRequest(Request):
    """A request that records which attributes are read."""

    read_keys: set[DataKey] = msgspec.field(default_factory=set)

    @classmethod
    def create(cls, attributes: Attributes, headers: Mapping[str, str]) -> _RecordingRequest:
        text, body = b"once upon a time", b"{}"
        path = "/v1/completions"
        return cls(id="r", path=path, headers=headers, model="m", text=text, body=body, attributes=dict(attributes))

    def __getitem__(self, attribute: RequestAttribute) -> Any:
        self.read_keys.add(attribute)
        return super().__getitem__(attribute)


class _EndpointsCheck(ContractCheck):
    """Calls a plugin with pools of endpoints, at scattered slots so that slot and position cannot be confused."""

    def __init__(
        self,
        plugin: Plugin,
        interface: type,
        attributes: Attributes | None,
        labels: Labels,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(plugin, interface)
        self._headers = headers or {}
        self._attributes = {**DEFAULT_ATTRIBUTES, **(attributes or {})}
        self._labels = labels
        self._rng = np.random.default_rng(11)

    def consumed_columns(self) -> list[Column]:
        return [key for key in self.plugin.consumes if isinstance(key, Column)]

    def require_array(self, what: str, value: Any, n: int, dtype: type) -> None:
        """The value must be dtype[n]. Other floats than float32 would be converted at every request."""
        self.require(isinstance(value, np.ndarray), f"{what}: {type(value).__name__}, not an array")
        self.require(value.shape == (n,), f"{what}: shape {value.shape}, not ({n},)")
        self.require(value.dtype == dtype, f"{what}: dtype {value.dtype}, not {np.dtype(dtype)}")

    def require_equal(self, what: str, one: Any, other: Any) -> None:
        is_equal = one.shape == other.shape and np.allclose(one, other, rtol=1e-6, equal_nan=one.dtype.kind == "f")
        self.require(bool(is_equal), f"{what} differ: {one} and {other}")

    def random_totals(self, n: int, high: float) -> NDArray[np.float32]:
        return np.random.default_rng(n).uniform(0, high, n).astype(np.float32)

    def random_order(self, n: int) -> NDArray[np.intp]:
        return self._rng.permutation(n)

    def build_pool(
        self, n: int, *, order: NDArray[np.intp] | None = None, unknown: tuple[Column, int | slice] | None = None
    ) -> _RecordingEndpoints:
        """n endpoints with every known column filled; `unknown`: a column and the positions at which it is NaN."""
        slots = np.arange(n) * 2 + 1
        endpoints: list[Endpoint | None] = [None] * (2 * n + 1)
        for i, slot in enumerate(slots.tolist()):
            endpoints[slot] = build_endpoint(i, self._labels[i % len(self._labels)])
        columns = {}
        for column in {*COLUMNS_BY_NAME.values(), *self.consumed_columns()}:
            values = np.full(2 * n + 1, np.nan, np.float32)
            drawn = np.random.default_rng([n, *column.name.encode()]).uniform(0, 1, n)
            values[slots] = drawn if column.unit == "fraction" else np.floor(drawn * 32)
            if unknown is not None and unknown[0] is column:
                values[slots[unknown[1]]] = np.nan
            values.flags.writeable = False
            columns[column] = values
        return _RecordingEndpoints(Snapshot(columns, endpoints, slots), slots if order is None else slots[order])

    def run_plugin(
        self,
        call: Call,
        pool: _RecordingEndpoints,
        attributes: Attributes | None = None,
        request: Request | None = None,
    ) -> Any:
        """The result of the call. It must not raise, write to columns, or read what the plugin does not consume."""
        given = self._attributes if attributes is None else attributes
        recording = _RecordingRequest.create(given, self._headers)
        before = {column: values.copy() for column, values in pool._snapshot.columns.items()}
        result = self.require_no_error(f"for {len(pool)} endpoints", call, pool, request or recording)
        for column, values in before.items():
            unchanged = np.array_equal(values, pool._snapshot.columns[column], equal_nan=True)
            self.require(unchanged, f"writes to the column {column.name}")
        for attribute, value in given.items():
            unchanged = request is not None or recording.attributes.get(attribute) is value
            self.require(unchanged, f"replaces the request attribute {attribute.name}")
        undeclared = (pool.read_keys | recording.read_keys) - set(self.plugin.consumes)
        names = ", ".join(sorted(key.name for key in undeclared))
        self.require(not undeclared, f"reads {names} without naming it in `consumes`")
        return result
