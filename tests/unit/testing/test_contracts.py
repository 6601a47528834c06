"""The contract checks catch what they are there for."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from epp.api import (
    KV_CACHE_USAGE,
    PREFIX_MATCH_BLOCKS,
    RUNNING_REQUESTS,
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
from epp.testing import build_endpoints, check_filter, check_picker, check_producer, check_scorer


class Spoilt(Scorer, type="spoilt"):
    """Lets one unknown value spoil the pool."""

    consumes = (WAITING_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        waiting = endpoints[WAITING_REQUESTS]
        return 1 - waiting / np.maximum(1, waiting.max(initial=0))  # type: ignore[no-any-return]


class Placed(Scorer, type="placed"):
    """Depends on position."""

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.linspace(0, 1, len(endpoints), dtype=np.float32)


class Nosy(Scorer, type="nosy"):
    """Reads what it does not declare."""

    consumes = (WAITING_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return 1 / (1 + endpoints[RUNNING_REQUESTS])  # type: ignore[no-any-return]


class Scribbler(Scorer, type="scribbler"):
    """Writes to a column."""

    consumes = (KV_CACHE_USAGE,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        usage = endpoints[KV_CACHE_USAGE]
        usage[:] = 0
        return usage


class Loud(Scorer, type="loud"):
    """Leaves [0, 1]."""

    consumes = (WAITING_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return endpoints[WAITING_REQUESTS] + 0


class Moody(Scorer, type="moody"):
    """Says something else each time."""

    def __post_init__(self) -> None:
        self.calls = 0

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        self.calls += 1
        return np.full(len(endpoints), 1 / self.calls, np.float32)


class Scalar(Scorer, type="scalar"):
    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return np.float32(0.5)  # type: ignore[return-value]


class Impatient(Scorer, type="impatient"):
    """Fails without endpoints."""

    consumes = (WAITING_REQUESTS,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        waiting = endpoints[WAITING_REQUESTS]
        return np.where(waiting == waiting[0], np.float32(1), np.float32(0))


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (Spoilt(), r"Spoilt \(spoilt\): one endpoint's unknown waiting spoils the scores of others"),
        (Placed(), "scores of reordered endpoints differ"),
        (Nosy(), "reads running without naming it in `needs`"),
        (Scribbler(), "Scribbler raised for . endpoints: ValueError: assignment destination is read-only"),
        (Loud(), r"scores outside \[0, 1\]"),
        (Moody(), "scores differ"),
        (Scalar(), "scores: float32, not an array"),
        (Impatient(), "Impatient raised for 0 endpoints: IndexError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Scorer) else "",
)
def test_bad_scorers(scorer: Scorer, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_scorer(scorer)


class Numbers(Filter, type="numbers"):
    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return np.zeros(len(endpoints), np.int64)  # type: ignore[return-value]


class OutOfRange(Picker, type="out-of-range"):
    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return np.full(min(1, len(totals)), len(totals))


class Stingy(Picker, type="stingy"):
    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return np.arange(min(1, len(totals)))


def test_bad_filters_and_pickers() -> None:
    with pytest.raises(AssertionError, match="mask: dtype int64"):
        check_filter(Numbers())
    with pytest.raises(AssertionError, match="is out of range for 1 endpoints"):
        check_picker(OutOfRange())
    check_picker(Stingy())
    with pytest.raises(AssertionError, match="1 of 2 endpoints picked, not 2"):
        check_picker(Stingy(max_num_of_endpoints=2))


class Fair(Producer, type="fair"):
    consumes = (WAITING_REQUESTS,)
    produces = (PREFIX_MATCH_BLOCKS,)

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {PREFIX_MATCH_BLOCKS: endpoints[WAITING_REQUESTS] * 2}


class Generous(Fair, type="generous"):
    produces = ()


class Awaited(AsyncProducer, type="awaited"):
    produces = (PREFIX_MATCH_BLOCKS,)

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {PREFIX_MATCH_BLOCKS: np.zeros(len(endpoints) + 1, np.float32)}


def test_producers() -> None:
    check_producer(Fair())
    with pytest.raises(AssertionError, match="which `gives` does not promise"):
        check_producer(Generous())
    with pytest.raises(AssertionError, match=r"prefix_blocks: shape \(1,\), not \(0,\)"):
        check_producer(Awaited())


def test_builders_refuse_nonsense() -> None:
    with pytest.raises(TypeError, match="no column wating"):
        build_endpoints(wating=[1])
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        build_endpoints(waiting=[1], running=[1, 2])
