"""One profile run: filtered endpoints, weighted totals, picked positions, and plugins that break their contract."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from epp.api import (
    WAITING_REQUESTS,
    Endpoints,
    Filter,
    Mask,
    NoEndpoints,
    Overloaded,
    Picker,
    Positions,
    Request,
    SchedulerProfile,
    Scorer,
    Scores,
    Values,
)
from epp.errors import ServiceUnavailable
from epp.scheduling.plugin_metrics import PluginTimer
from epp.scheduling.profile_run import run_profile
from epp.scheduling.result import ProfileRunResult
from epp.testing import build_endpoints, build_request
from scorers.filters.label_selector import LabelSelectorFilter
from scorers.pickers.max_score import MaxScorePicker
from scorers.queue import QueueScorer


class StubScorer(Scorer, type="says"):
    """Returns what `result` computes from the number of endpoints."""

    result: Callable[[int], object]

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return self.result(len(endpoints))  # type: ignore[return-value]


class StubFilter(Filter, type="keeps"):
    result: Callable[[int], object]

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return self.result(len(endpoints))  # type: ignore[return-value]


class NoEndpointsFilter(StubFilter, type="may-not"):
    rejection = NoEndpoints


class StubPicker(Picker, type="picks", kw_only=True):
    result: Callable[[int], object]

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return self.result(len(endpoints))  # type: ignore[return-value]


def scores(*values: float) -> Callable[[int], object]:
    return lambda _: np.array(values, np.float32)


def mask(*values: bool) -> Callable[[int], object]:
    return lambda _: np.array(values, np.bool_)


def raise_error(_: int) -> object:
    raise RuntimeError("broken plugin")


class ProfileRunner:
    """Runs a profile and keeps the reported errors."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str]] = []

    def __call__(self, profile: SchedulerProfile, pool: Endpoints | None = None, seed: int = 1) -> ProfileRunResult:
        pool = build_endpoints(waiting=[0, 1, 2]) if pool is None else pool
        return run_profile(
            profile, build_request(), pool, Random(seed), lambda name, kind: self.errors.append((name, kind))
        )


@pytest.fixture
def run() -> ProfileRunner:
    return ProfileRunner()


def build_profile(
    *scorers: tuple[float, Scorer], filters: tuple[Filter, ...] = (), picker: Picker | None = None
) -> SchedulerProfile:
    return SchedulerProfile(
        "p",
        filters=[(f"f{i}", each) for i, each in enumerate(filters)],
        scorers=[(f"s{i}", weight, each) for i, (weight, each) in enumerate(scorers)],
        picker=("picker", picker or MaxScorePicker()),
    )


def test_totals_are_weighted_sums_and_the_highest_is_picked(run: ProfileRunner) -> None:
    result = run(build_profile((2, StubScorer(result=scores(1, 0, 0.5))), (3, StubScorer(result=scores(0, 0.5, 1)))))
    assert result.totals.tolist() == [2, 1.5, 4]  # weights are not normalised
    assert result.order.tolist() == [2]
    assert run.errors == []


def test_without_scorers_all_endpoints_are_equal(run: ProfileRunner) -> None:
    picked = {run(build_profile(), seed=seed).order.item() for seed in range(30)}
    assert picked == {0, 1, 2}


def test_filters_are_applied_in_order(run: ProfileRunner) -> None:
    result = run(
        build_profile(
            (1, QueueScorer()),
            filters=(StubFilter(result=mask(True, True, True)), StubFilter(result=mask(False, True, True))),
        )
    )
    assert [endpoint.name for endpoint in result.endpoints] == ["e1", "e2"]
    assert result.endpoints.endpoint_at(int(result.order[0])).name == "e1"
    assert result.filter_masks[0] is None


def test_a_filter_that_keeps_all_makes_no_copy(run: ProfileRunner) -> None:
    pool = build_endpoints(waiting=[0, 1, 2])
    assert run(build_profile(filters=(StubFilter(result=mask(True, True, True)),)), pool).endpoints is pool


@pytest.mark.parametrize(("kind", "reject"), [(StubFilter, Overloaded), (NoEndpointsFilter, NoEndpoints)])
def test_a_filter_that_keeps_none_decides_the_rejection(
    run: ProfileRunner, kind: type[StubFilter], reject: type[Exception]
) -> None:
    never = StubScorer(result=raise_error)
    result = run(
        build_profile((1, never), filters=(kind(result=mask(False, False, False)), StubFilter(result=raise_error)))
    )
    assert (result.emptied_by, result.rejection_type, result.order.size) == ("f0", reject, 0)
    assert str(result.build_rejection("no endpoint")) == "no endpoint"
    assert run.errors == []


@pytest.mark.parametrize(
    ("compute", "kind"),
    [(raise_error, "raised"), (mask(True), "shape"), (scores(1, 0, 1), "shape"), (lambda _: None, "raised")],
)
def test_a_broken_filter_rejects_with_503_and_its_name(
    run: ProfileRunner, compute: Callable[[int], object], kind: str
) -> None:
    result = run(build_profile(filters=(StubFilter(result=compute),)))
    assert result.order.size == 0
    rejection = result.build_rejection("no endpoint")
    assert isinstance(rejection, ServiceUnavailable)
    assert str(rejection) == "filter 'f0' failed"
    assert run.errors == [("f0", kind)]


@pytest.mark.parametrize(
    ("compute", "kind"),
    [
        (raise_error, "raised"),
        (scores(1), "shape"),
        (lambda n: np.zeros((n, 1), np.float32), "shape"),
        (lambda _: "high", "raised"),
        (lambda n: np.array(["high"] * n), "shape"),
    ],
)
def test_a_broken_scorer_is_neutral(run: ProfileRunner, compute: Callable[[int], object], kind: str) -> None:
    result = run(build_profile((2, StubScorer(result=compute)), (1, StubScorer(result=scores(0, 0, 1)))))
    assert result.totals.tolist() == [1, 1, 2]
    assert run.errors == [("s0", kind)]


def test_scores_out_of_range_are_clipped_and_reported(run: ProfileRunner) -> None:
    result = run(build_profile((1, StubScorer(result=scores(0, 1, 0.25))), (1, StubScorer(result=scores(-3, 7, 0.5)))))
    assert result.totals.tolist() == [0, 2, 0.75]
    assert run.errors == [("s1", "range")]


def test_nan_scores_are_neutral_and_reported(run: ProfileRunner) -> None:
    result = run(build_profile((2, StubScorer(result=scores(0, float("nan"), float("inf"))))))
    assert result.totals.tolist() == [0, 1, 2]
    assert run.errors == [("s0", "unknown"), ("s0", "range")]


def test_a_stale_endpoint_is_neither_best_nor_worst(run: ProfileRunner) -> None:
    result = run(build_profile((2, QueueScorer())), build_endpoints(waiting=[0, float("nan"), 8]))
    assert result.totals.tolist() == [2, 1, 0]
    assert run.errors == [("s0", "unknown")]


def test_integer_scores_are_accepted(run: ProfileRunner) -> None:
    result = run(build_profile((2, StubScorer(result=lambda n: np.arange(n) == 1))))
    assert result.totals.tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("compute", "kind"),
    [
        (raise_error, "raised"),
        (lambda _: np.array([], np.intp), "order"),
        (lambda n: np.array([n]), "order"),
        (lambda _: np.array([-1]), "order"),
        (lambda _: np.array([0.5]), "order"),
        (lambda _: np.array([0, 1]), "order"),
        (lambda _: 3, "raised"),
    ],
)
def test_a_broken_picker_is_replaced_by_the_highest_total(
    run: ProfileRunner, compute: Callable[[int], object], kind: str
) -> None:
    result = run(build_profile((1, StubScorer(result=scores(0, 1, 0))), picker=StubPicker(result=compute)))
    assert result.order.tolist() == [1]
    assert run.errors == [("picker", kind)]


def test_a_picker_may_return_several_positions_but_each_once(run: ProfileRunner) -> None:
    good = run(build_profile(picker=StubPicker(result=lambda _: np.array([2, 0]), max_num_of_endpoints=2)))
    assert good.order.tolist() == [2, 0]
    run(build_profile(picker=StubPicker(result=lambda _: np.array([2, 2]), max_num_of_endpoints=2)))
    assert run.errors == [("picker", "order")]


def test_no_candidates(run: ProfileRunner) -> None:
    result = run(build_profile((1, QueueScorer())), build_endpoints(waiting=[]))
    assert result.order.size == 0
    assert isinstance(result.build_rejection("no endpoint"), NoEndpoints)


def test_equal_scores_give_equal_totals_at_every_position(run: ProfileRunner) -> None:
    """A matrix product rounds by position (vector body or tail), which would make some equals never win."""
    score = np.float32(0.1) * np.float32(3)
    weights = (0.3, 0.7, 1.1, 2.3)
    uniform = [(weight, StubScorer(result=lambda n: np.full(n, score))) for weight in weights]
    result = run(build_profile(*uniform), build_endpoints(61))
    assert len(set(result.totals.tolist())) == 1


def test_the_result_is_read_only(run: ProfileRunner) -> None:
    result = run(build_profile((1, QueueScorer())))
    assert not result.totals.flags.writeable
    assert not any(row.flags.writeable for row in result.scores)


def test_a_timer_records_every_plugin_call() -> None:
    class Stopwatch:
        def __init__(self) -> None:
            self.ticks = 0
            self.calls: list[tuple[str, str, str, float]] = []

        def now(self) -> float:
            self.ticks += 1
            return float(self.ticks)

        def record(self, extension_point: str, type: str, name: str, seconds: float) -> None:
            self.calls.append((extension_point, type, name, seconds))

    stopwatch = Stopwatch()
    plan = build_profile((1, QueueScorer()), filters=(LabelSelectorFilter(),))
    run_profile(
        plan,
        build_request(),
        build_endpoints(waiting=[1, 2]),
        Random(1),
        lambda *_: None,
        PluginTimer(stopwatch.now, stopwatch.record),
    )
    assert stopwatch.calls == [
        ("Filter", "label-selector-filter", "f0", 1),
        ("Scorer", "queue-scorer", "s0", 1),
        ("Picker", "max-score-picker", "picker", 1),
    ]


def test_columns_not_read_are_not_gathered(run: ProfileRunner) -> None:
    result = run(build_profile((1, QueueScorer())))
    assert list(result.endpoints._gathered) == [WAITING_REQUESTS]
