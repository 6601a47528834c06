"""bench/paper: the paper's jobs, its two results, and the page written from them."""

from __future__ import annotations

import pytest

from bench.paper import __main__ as command
from bench.paper import charts, delays, document, jobs, tables
from bench.paper.arms import ARMS, DAS, NATIVE, simulate_arm
from bench.paper.orders import ARMS_BY_NAME, PAPER_MAKESPAN_CHANGE, fit_ratios, simulate_native_orders
from epp_batch.planner import FASTER_WHISPER_SPEEDS, PAPER_SPEEDS, SearchOptions
from epp_batch.timeline import TimelineEvent

QUICK = SearchOptions(evaluations=20)


@pytest.fixture(scope="module")
def paper():
    return {arm.name: simulate_arm(arm, PAPER_SPEEDS, QUICK) for arm in ARMS}


def test_jobs_have_the_lengths_of_the_paper():
    units = jobs.load_units()
    hours = {model: sum(unit.seconds for unit in units if unit.model == model) / 3600 for model in ("medium", "large")}
    assert [unit.model for unit in units] == ["medium", "large"] * 16
    assert hours == {"medium": pytest.approx(14.12, abs=0.01), "large": pytest.approx(13.64, abs=0.01)}
    assert max(unit.seconds for unit in units) == 7407


def test_slices_shorten_the_mean_by_36_per_cent_with_25_at_once(paper):
    native, das = paper[NATIVE].stats, paper[DAS].stats
    assert das.mean / native.mean - 1 == pytest.approx(-0.36, abs=0.005)
    assert (native.peak, das.peak) == (8, 25)


def test_queues_gain_15_per_cent_against_some_native_orders_but_not_in_order_of_submission(paper):
    orders = simulate_native_orders(60)
    assert orders.change_against(orders.by_name["as submitted"]) > -0.05
    assert orders.change_against(orders.shuffled[-1]) < PAPER_MAKESPAN_CHANGE
    assert 0.1 < orders.share_reaching_paper_change < 0.5
    bound = paper[NATIVE].bound / orders.by_name["as submitted"] - 1
    assert PAPER_MAKESPAN_CHANGE < bound < 0


def test_queues_gain_15_per_cent_if_large_is_five_times_slower():
    nearest = tables.closest_ratio(fit_ratios((2, 5)))
    assert nearest.ratio == 5
    assert nearest.best_queue / nearest.native - 1 == pytest.approx(PAPER_MAKESPAN_CHANGE, abs=0.01)


def test_our_arms_are_better_than_the_papers_best(paper):
    best_mean, best_span = paper[DAS].stats.mean, paper[NATIVE].stats.makespan * (1 + PAPER_MAKESPAN_CHANGE)
    chosen = paper["ours, slices chosen"].stats
    assert chosen.mean < best_mean
    assert chosen.makespan < best_span
    whole = simulate_arm(ARMS_BY_NAME["ours, whole GPUs"], PAPER_SPEEDS, SearchOptions(evaluations=400)).stats
    native = paper[NATIVE].stats
    assert whole.makespan < native.makespan
    assert whole.mean < native.mean


def test_every_job_ends_in_every_arm_for_both_workers(paper):
    for arm in ARMS:
        for result in (paper[arm.name], simulate_arm(arm, FASTER_WHISPER_SPEEDS, QUICK)):
            assert (result.stats.units, result.stats.failed) == (32, 0)
            assert result.stats.makespan >= result.bound - 1e-6


def test_a_chart_has_a_bar_for_every_job(paper):
    svg = charts.render_chart(paper[DAS])
    assert svg.startswith("<svg")
    assert all(model in svg for model in ("medium", "large"))
    assert sum(unit.tasks[0].stem in svg for unit in jobs.load_units()) == 32


def test_the_simulation_is_repeated_with_measured_delays():
    simulated = simulate_arm(ARMS_BY_NAME["Kueue A"], PAPER_SPEEDS, QUICK)
    real = []
    for event in simulated.events:
        delay = {"created": 0.0, "admitted": 0.0, "running": 5.0, "finished": 8.0}.get(event.kind)
        if delay is not None:
            real.append(TimelineEvent(at=event.at + delay, unit=event.unit, kind=event.kind))
    repeated = delays.simulate_with_delays(simulated, sorted(real, key=lambda event: event.at))
    assert repeated.cluster_model.delays.pod_startup == pytest.approx(5)
    assert repeated.cluster_model.delays.submit_interval == pytest.approx(jobs.SUBMIT_INTERVAL)
    assert repeated.order[0].startup_seconds == pytest.approx(simulated.order[0].startup_seconds + 3)
    assert repeated.stats.makespan > simulated.stats.makespan


def test_the_page_has_all_figures_and_charts(paper, tmp_path):
    parts = {"main": tables.build_main_table(paper, paper), "orders": "o", "ratios": "r"}
    document.write_page(tmp_path, paper, simulate_native_orders(8), fit_ratios((2,)), parts, 20)
    page = (tmp_path / "paper.md").read_text()
    assert "{" not in page
    assert "8 → 25" in page
    for name in document.CHARTS:
        assert (tmp_path / f"paper-{charts.file_slug(name)}.svg").exists()
        assert f"paper-{charts.file_slug(name)}.svg" in page


@pytest.mark.parametrize("scale", ["0", "21", "nan"])
def test_scale_is_limited_to_20(scale, capsys):
    with pytest.raises(SystemExit):
        command.parse_arguments(["--scale", scale])
    assert "invalid --scale: expected 1 to 20" in capsys.readouterr().err


def test_an_unknown_arm_is_rejected(capsys):
    assert command.main(["--only", "Kueue Z"]) == 2
    assert "unknown arm Kueue Z; known are native," in capsys.readouterr().err
