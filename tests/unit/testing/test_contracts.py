"""The contract checks of filters, scorers, pickers and producers reject implementations that break the contract."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np
import pytest

from epp.api import (
    INFLIGHT_REQUESTS,
    KV_CACHE_USAGE,
    PREFIX_MATCH_BLOCKS,
    PROMPT,
    RUNNING_REQUESTS,
    UNCACHED_TOKENS,
    WAITING_REQUESTS,
    AsyncProducer,
    Endpoints,
    Filter,
    Mask,
    Picker,
    Positions,
    ProducedData,
    Producer,
    Request,
    Scorer,
    Scores,
    Values,
)
from epp.testing import (
    build_endpoints,
    check_async_producer,
    check_filter,
    check_picker,
    check_producer,
    check_scorer,
)


class NanSpreadingScorer(Scorer, type="nan-spreading"):
    """One unknown value makes all scores unknown."""

    consumes = (WAITING_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        waiting = endpoints[WAITING_REQUESTS]
        return 1 - waiting / np.maximum(1, waiting.max(initial=0))  # type: ignore[no-any-return]


class PositionScorer(Scorer, type="position"):
    """Scores depend on the order of the endpoints."""

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.linspace(0, 1, len(endpoints), dtype=np.float32)


class UndeclaredReadScorer(Scorer, type="undeclared-read"):
    """Reads a column that `consumes` does not list."""

    consumes = (WAITING_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return 1 / (1 + endpoints[RUNNING_REQUESTS])  # type: ignore[no-any-return]


class ColumnWritingScorer(Scorer, type="column-writing"):
    """Writes to a column."""

    consumes = (KV_CACHE_USAGE,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        usage = endpoints[KV_CACHE_USAGE]
        usage[:] = 0
        return usage


class OutOfRangeScorer(Scorer, type="out-of-range-scores"):
    """Returns scores above 1."""

    consumes = (WAITING_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return endpoints[WAITING_REQUESTS] + 0


class UnstableScorer(Scorer, type="unstable"):
    """Returns other scores at each call."""

    def __post_init__(self) -> None:
        self.calls = 0

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        self.calls += 1
        return np.full(len(endpoints), 1 / self.calls, np.float32)


class ScalarScorer(Scorer, type="scalar"):
    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.float32(0.5)  # type: ignore[return-value]


class DoubleScorer(Scorer, type="double"):
    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.full(len(endpoints), 0.5)  # type: ignore[return-value]


class EmptyPoolFailingScorer(Scorer, type="empty-pool-failing"):
    """Raises without endpoints."""

    consumes = (WAITING_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        waiting = endpoints[WAITING_REQUESTS]
        return np.where(waiting == waiting[0], np.float32(1), np.float32(0))


class RequestDependentScorer(Scorer, type="request-dependent"):
    """Declares that the request has no influence, and reads it."""

    request_independent = True

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.full(len(endpoints), 1 / (1 + len(request.text)), np.float32)


class LiveColumnScorer(Scorer, type="live-column"):
    """Its scores would be kept until the next scrape, but the ledger's columns change with every request."""

    request_independent = True
    consumes = (INFLIGHT_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return 1 / (1 + endpoints[INFLIGHT_REQUESTS])  # type: ignore[no-any-return]


class NanScorer(Scorer, type="nan"):
    """Has no score for any endpoint."""

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.full(len(endpoints), np.nan, np.float32)


class HeaderScorer(NanScorer, type="header"):
    """Has scores only for requests with a header."""

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.full(len(endpoints), float(request.headers.get("x-score", "nan")), np.float32)


class ScorerWithoutScore(Scorer, type="no-score"):
    pass


class QueueLengths(Producer, type="queue-lengths"):
    """Of another kind than the check."""

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {}


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (
            NanSpreadingScorer(),
            r"NanSpreadingScorer \(nan-spreading\): one endpoint's unknown waiting spoils the scores of others",
        ),
        (PositionScorer(), "scores of reordered endpoints differ"),
        (UndeclaredReadScorer(), "reads running without naming it in `consumes`"),
        (
            ColumnWritingScorer(),
            "ColumnWritingScorer raised for . endpoints: ValueError: assignment destination is read-only",
        ),
        (OutOfRangeScorer(), r"scores outside \[0, 1\]"),
        (UnstableScorer(), "scores differ"),
        (ScalarScorer(), "scores: float32, not an array"),
        (DoubleScorer(), "scores: dtype float64, not float32"),
        (NanScorer(), "the score of every endpoint is NaN, although all columns are known"),
        (HeaderScorer(), "the score of every endpoint is NaN, although all columns are known"),
        (QueueLengths(), r"QueueLengths \(queue-lengths\): does not inherit Scorer"),
        (NanScorer, "NanScorer is a class: pass an instance of it"),
        (EmptyPoolFailingScorer(), "EmptyPoolFailingScorer raised for 0 endpoints: IndexError"),
        (RequestDependentScorer(), "request_independent, but scores of two requests differ"),
        (LiveColumnScorer(), "consumes inflight_requests, which is not a scraped column"),
        (ScorerWithoutScore(), r"does not implement score\(\) of Scorer"),  # type: ignore[abstract]
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Scorer) else "",
)
def test_a_scorer_that_breaks_the_contract_is_rejected(scorer: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_scorer(scorer)


def test_a_scorer_of_a_header_is_checked_with_the_headers_given() -> None:
    check_scorer(HeaderScorer(), headers={"x-score": "0.5"})


class IntegerFilter(Filter, type="integers"):
    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return np.zeros(len(endpoints), np.int64)  # type: ignore[return-value]


class FirstHalfFilter(Filter, type="first-half"):
    """The mask depends on the order of the endpoints."""

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return np.arange(len(endpoints)) < len(endpoints) / 2


class PromptFilter(Filter, type="prompt"):
    """Raises where the producer of the prompt failed."""

    consumes = (PROMPT,)

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return np.full(len(endpoints), request[PROMPT].token_count > 0)


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        (IntegerFilter(), "mask: dtype int64, not bool"),
        (FirstHalfFilter(), "mask of reordered endpoints differ"),
        (PromptFilter(), "PromptFilter raised for 7 endpoints: AttributeError"),
    ],
)
def test_a_filter_that_breaks_the_contract_is_rejected(filter: Filter, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_filter(filter)


class OutOfRangePicker(Picker, type="out-of-range"):
    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return np.full(min(1, len(totals)), len(totals))


class SinglePicker(Picker, type="single"):
    """Picks one endpoint, whatever max_num_of_endpoints is."""

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return np.arange(min(1, len(totals)))


class RepeatingPicker(Picker, type="repeating"):
    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return np.zeros(min(self.max_num_of_endpoints, len(totals)), np.intp)


class UnseededPicker(Picker, type="unseeded"):
    """Draws from a generator of its own."""

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return np.random.default_rng().permutation(len(totals))[:1]


def test_a_picker_that_breaks_the_contract_is_rejected() -> None:
    with pytest.raises(AssertionError, match="is out of range for 1 endpoints"):
        check_picker(OutOfRangePicker())
    check_picker(SinglePicker())
    with pytest.raises(AssertionError, match="1 of 2 endpoints picked, not 2"):
        check_picker(SinglePicker(max_num_of_endpoints=2))
    with pytest.raises(AssertionError, match=r"\[0, 0\] names an endpoint twice"):
        check_picker(RepeatingPicker(max_num_of_endpoints=2))
    with pytest.raises(AssertionError, match="positions with the same seed differ"):
        check_picker(UnseededPicker())


class SoundProducer(Producer, type="sound"):
    consumes = (WAITING_REQUESTS,)
    produces = (PREFIX_MATCH_BLOCKS,)

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {PREFIX_MATCH_BLOCKS: endpoints[WAITING_REQUESTS] * 2}


class UnlistedOutputProducer(SoundProducer, type="unlisted-output"):
    produces = ()


class MissingOutputProducer(SoundProducer, type="missing-output"):
    produces = (PREFIX_MATCH_BLOCKS, UNCACHED_TOKENS)


class CountingProducer(SoundProducer, type="counting"):
    """Learns in `produce`, although the request may still be rejected."""

    consumes = ()

    def __post_init__(self) -> None:
        self.calls = 0

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        self.calls += 1
        return {PREFIX_MATCH_BLOCKS: np.full(len(endpoints), self.calls, np.float32)}


class OverwritingProducer(SoundProducer, type="overwriting"):
    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        request.attributes[PROMPT] = None
        return super().produce(request, endpoints)


@pytest.mark.parametrize(
    ("producer", "message"),
    [
        (UnlistedOutputProducer(), "produces prefix_blocks, which `produces` does not list"),
        (MissingOutputProducer(), "never produces uncached_tokens"),
        (CountingProducer(), "prefix_blocks of a second call differ"),
        (OverwritingProducer(), "replaces the request attribute prompt"),
    ],
)
def test_a_producer_that_breaks_the_contract_is_rejected(producer: Producer, message: str) -> None:
    check_producer(SoundProducer())
    with pytest.raises(AssertionError, match=message):
        check_producer(producer)


class SoundAsyncProducer(AsyncProducer, type="sound-async"):
    produces = (PREFIX_MATCH_BLOCKS,)

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        await asyncio.sleep(0)
        return {PREFIX_MATCH_BLOCKS: np.zeros(len(endpoints), np.float32)}


class WrongShapeAsyncProducer(SoundAsyncProducer, type="wrong-shape"):
    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {PREFIX_MATCH_BLOCKS: np.zeros(len(endpoints) + 1, np.float32)}


class SharedStateAsyncProducer(SoundAsyncProducer, type="shared-state"):
    """Two calls at once see each other's state."""

    def __post_init__(self) -> None:
        self.running = 0

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        self.running += 1
        await asyncio.sleep(0)
        values = np.full(len(endpoints), self.running, np.float32)
        self.running -= 1
        return {PREFIX_MATCH_BLOCKS: values}


class UncancellableAsyncProducer(SoundAsyncProducer, type="uncancellable"):
    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
        return {PREFIX_MATCH_BLOCKS: np.zeros(len(endpoints), np.float32)}


@pytest.mark.parametrize(
    ("producer", "message"),
    [
        (WrongShapeAsyncProducer(), r"prefix_blocks: shape \(1,\), not \(0,\)"),
        (SharedStateAsyncProducer(), "prefix_blocks of two calls at once differ"),
        (UncancellableAsyncProducer(), "swallows its cancellation"),
    ],
)
def test_an_async_producer_that_breaks_the_contract_is_rejected(producer: AsyncProducer, message: str) -> None:
    check_async_producer(SoundAsyncProducer())
    with pytest.raises(AssertionError, match=message):
        check_async_producer(producer)


def test_builders_refuse_unknown_columns_and_unequal_lengths() -> None:
    with pytest.raises(TypeError, match="no column wating"):
        build_endpoints(wating=[1])
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        build_endpoints(waiting=[1], running=[1, 2])
