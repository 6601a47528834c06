"""One run of a profile: what is kept, what is weighed, what is picked, and what a faulty plugin does to it."""

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
    """Whatever the test wants."""

    what: Callable[[int], object]

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return self.what(len(endpoints))  # type: ignore[return-value]


class StubFilter(Filter, type="keeps"):
    what: Callable[[int], object]

    def filter(self, request: Request, endpoints: Endpoints) -> Mask:
        return self.what(len(endpoints))  # type: ignore[return-value]


class NoEndpointsFilter(StubFilter, type="may-not"):
    rejection = NoEndpoints


class StubPicker(Picker, type="picks", kw_only=True):
    what: Callable[[int], object]

    def pick(self, request: Request, endpoints: Endpoints, totals: Values, rng: Random) -> Positions:
        return self.what(len(endpoints))  # type: ignore[return-value]


def scores(*values: float) -> Callable[[int], object]:
    return lambda _: np.array(values, np.float32)


def mask(*values: bool) -> Callable[[int], object]:
    return lambda _: np.array(values, np.bool_)


def raise_error(_: int) -> object:
    raise RuntimeError("out of cheese")


class ProfileRunner:
    """Runs a profile and keeps the faults."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str]] = []

    def __call__(self, profile: SchedulerProfile, pool: Endpoints | None = None, seed: int = 1) -> ProfileRunResult:
        pool = build_endpoints(waiting=[0, 1, 2]) if pool is None else pool
        return run_profile(
            profile, build_request(), pool, Random(seed), lambda name, kind: self.errors.append((name, kind))
        )


@pytest.fixture
def play() -> ProfileRunner:
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


def test_weighted_sum_and_best(play: ProfileRunner) -> None:
    verdict = play(build_profile((2, StubScorer(what=scores(1, 0, 0.5))), (3, StubScorer(what=scores(0, 0.5, 1)))))
    assert verdict.totals.tolist() == [2, 1.5, 4]  # weights are not normalised
    assert verdict.order.tolist() == [2]
    assert play.errors == []


def test_no_scorers(play: ProfileRunner) -> None:
    picked = {play(build_profile(), seed=seed).order.item() for seed in range(30)}
    assert picked == {0, 1, 2}


def test_filters_narrow_in_order(play: ProfileRunner) -> None:
    verdict = play(
        build_profile(
            (1, QueueScorer()),
            filters=(StubFilter(what=mask(True, True, True)), StubFilter(what=mask(False, True, True))),
        )
    )
    assert [endpoint.name for endpoint in verdict.endpoints] == ["e1", "e2"]
    assert verdict.endpoints.endpoint_at(int(verdict.order[0])).name == "e1"
    assert verdict.filter_masks[0] is None


def test_a_filter_that_keeps_all_copies_nothing(play: ProfileRunner) -> None:
    pool = build_endpoints(waiting=[0, 1, 2])
    assert play(build_profile(filters=(StubFilter(what=mask(True, True, True)),)), pool).endpoints is pool


@pytest.mark.parametrize(("kind", "reject"), [(StubFilter, Overloaded), (NoEndpointsFilter, NoEndpoints)])
def test_a_filter_that_keeps_none_says_how_the_request_ends(
    play: ProfileRunner, kind: type[StubFilter], reject: type[Exception]
) -> None:
    never = StubScorer(what=raise_error)
    verdict = play(
        build_profile((1, never), filters=(kind(what=mask(False, False, False)), StubFilter(what=raise_error)))
    )
    assert (verdict.emptied_by, verdict.rejection_type, verdict.order.size) == ("f0", reject, 0)
    assert str(verdict.build_rejection("nobody is left")) == "nobody is left"
    assert play.errors == []


@pytest.mark.parametrize(
    ("what", "kind"),
    [(raise_error, "raised"), (mask(True), "shape"), (scores(1, 0, 1), "shape"), (lambda _: None, "raised")],
)
def test_a_faulty_filter_rejects_with_503_and_its_name(
    play: ProfileRunner, what: Callable[[int], object], kind: str
) -> None:
    verdict = play(build_profile(filters=(StubFilter(what=what),)))
    assert verdict.order.size == 0
    rejection = verdict.build_rejection("nobody is left")
    assert isinstance(rejection, ServiceUnavailable)
    assert str(rejection) == "filter 'f0' failed"
    assert play.errors == [("f0", kind)]


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (raise_error, "raised"),
        (scores(1), "shape"),
        (lambda n: np.zeros((n, 1), np.float32), "shape"),
        (lambda _: "high", "raised"),
        (lambda n: np.array(["high"] * n), "shape"),
    ],
)
def test_a_faulty_scorer_is_neutral(play: ProfileRunner, what: Callable[[int], object], kind: str) -> None:
    verdict = play(build_profile((2, StubScorer(what=what)), (1, StubScorer(what=scores(0, 0, 1)))))
    assert verdict.totals.tolist() == [1, 1, 2]
    assert play.errors == [("s0", kind)]


def test_scores_out_of_range_are_clipped_and_named(play: ProfileRunner) -> None:
    verdict = play(build_profile((1, StubScorer(what=scores(0, 1, 0.25))), (1, StubScorer(what=scores(-3, 7, 0.5)))))
    assert verdict.totals.tolist() == [0, 2, 0.75]
    assert play.errors == [("s1", "range")]


def test_unknown_scores_are_neutral_and_counted(play: ProfileRunner) -> None:
    verdict = play(build_profile((2, StubScorer(what=scores(0, float("nan"), float("inf"))))))
    assert verdict.totals.tolist() == [0, 1, 2]
    assert play.errors == [("s0", "unknown"), ("s0", "range")]


def test_a_stale_endpoint_is_neither_best_nor_worst(play: ProfileRunner) -> None:
    verdict = play(build_profile((2, QueueScorer())), build_endpoints(waiting=[0, float("nan"), 8]))
    assert verdict.totals.tolist() == [2, 1, 0]
    assert play.errors == [("s0", "unknown")]


def test_integer_scores_will_do(play: ProfileRunner) -> None:
    verdict = play(build_profile((2, StubScorer(what=lambda n: np.arange(n) == 1))))
    assert verdict.totals.tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("what", "kind"),
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
def test_a_faulty_picker_is_replaced_by_the_best(play: ProfileRunner, what: Callable[[int], object], kind: str) -> None:
    verdict = play(build_profile((1, StubScorer(what=scores(0, 1, 0))), picker=StubPicker(what=what)))
    assert verdict.order.tolist() == [1]
    assert play.errors == [("picker", kind)]


def test_a_picker_may_name_several_but_each_once(play: ProfileRunner) -> None:
    good = play(build_profile(picker=StubPicker(what=lambda _: np.array([2, 0]), max_num_of_endpoints=2)))
    assert good.order.tolist() == [2, 0]
    play(build_profile(picker=StubPicker(what=lambda _: np.array([2, 2]), max_num_of_endpoints=2)))
    assert play.errors == [("picker", "order")]


def test_nobody_to_choose_from(play: ProfileRunner) -> None:
    verdict = play(build_profile((1, QueueScorer())), build_endpoints(waiting=[]))
    assert verdict.order.size == 0
    assert isinstance(verdict.build_rejection("nobody"), NoEndpoints)


def test_equal_scores_give_equal_totals_wherever_they_stand(play: ProfileRunner) -> None:
    """A matrix product rounds by position (vector body or tail), which would make some equals never win."""
    score = np.float32(0.1) * np.float32(3)
    weights = (0.3, 0.7, 1.1, 2.3)
    uniform = [(weight, StubScorer(what=lambda n: np.full(n, score))) for weight in weights]
    verdict = play(build_profile(*uniform), build_endpoints(61))
    assert len(set(verdict.totals.tolist())) == 1


def test_the_verdict_is_read_only(play: ProfileRunner) -> None:
    verdict = play(build_profile((1, QueueScorer())))
    assert not verdict.totals.flags.writeable
    assert not any(row.flags.writeable for row in verdict.scores)


def test_timing_is_asked_for_by_the_caller() -> None:
    class Stopwatch:
        def __init__(self) -> None:
            self.ticks = 0
            self.seen: list[tuple[str, str, str, float]] = []

        def now(self) -> float:
            self.ticks += 1
            return float(self.ticks)

        def record(self, extension_point: str, type: str, name: str, seconds: float) -> None:
            self.seen.append((extension_point, type, name, seconds))

    watch = Stopwatch()
    plan = build_profile((1, QueueScorer()), filters=(LabelSelectorFilter(),))
    run_profile(
        plan,
        build_request(),
        build_endpoints(waiting=[1, 2]),
        Random(1),
        lambda *_: None,
        PluginTimer(watch.now, watch.record),
    )
    assert watch.seen == [
        ("Filter", "label-selector-filter", "f0", 1),
        ("Scorer", "queue-scorer", "s0", 1),
        ("Picker", "max-score-picker", "picker", 1),
    ]


def test_columns_not_read_are_not_gathered(play: ProfileRunner) -> None:
    verdict = play(build_profile((1, QueueScorer())))
    assert list(verdict.endpoints._gathered) == [WAITING_REQUESTS]
