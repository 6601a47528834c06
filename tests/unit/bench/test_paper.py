"""bench/paper: the jobs are the paper's, its two results come out, and the page says what was found."""

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


def test_the_jobs_are_the_papers():
    units = jobs.load_units()
    hours = {model: sum(unit.seconds for unit in units if unit.model == model) / 3600 for model in ("medium", "large")}
    assert [unit.model for unit in units] == ["medium", "large"] * 16
    assert hours == {"medium": pytest.approx(14.12, abs=0.01), "large": pytest.approx(13.64, abs=0.01)}
    assert max(unit.seconds for unit in units) == 7407


def test_slices_shorten_the_mean_by_36_per_cent_with_25_at_once(paper):
    native, das = paper[NATIVE].stats, paper[DAS].stats
    assert das.mean / native.mean - 1 == pytest.approx(-0.36, abs=0.005)
    assert (native.peak, das.peak) == (8, 25)


def test_queues_bring_15_per_cent_against_some_native_order_but_not_against_that_of_submission(paper):
    found = simulate_native_orders(60)
    assert found.gain(found.by_name["as submitted"]) > -0.05
    assert found.gain(found.shuffled[-1]) < PAPER_MAKESPAN_CHANGE
    assert 0.1 < found.share_reaching_paper_change < 0.5
    bound = paper[NATIVE].bound / found.by_name["as submitted"] - 1
    assert PAPER_MAKESPAN_CHANGE < bound < 0


def test_queues_bring_15_per_cent_when_large_is_five_times_slower():
    nearest = tables.closest_ratio(fit_ratios((2, 5)))
    assert nearest.ratio == 5
    assert nearest.best_queue / nearest.native - 1 == pytest.approx(PAPER_MAKESPAN_CHANGE, abs=0.01)


def test_ours_are_below_the_papers_best(paper):
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
        for found in (paper[arm.name], simulate_arm(arm, FASTER_WHISPER_SPEEDS, QUICK)):
            assert (found.stats.units, found.stats.failed) == (32, 0)
            assert found.stats.makespan >= found.bound - 1e-6


def test_a_chart_has_a_bar_for_every_job(paper):
    drawn = charts.render_chart(paper[DAS])
    assert drawn.startswith("<svg")
    assert all(drawn.count(f"{model}") for model in ("medium", "large"))
    assert sum(drawn.count(unit.tasks[0].stem) > 0 for unit in jobs.load_units()) == 32


def test_the_model_is_run_again_with_the_delays_of_a_real_run():
    found = simulate_arm(ARMS_BY_NAME["Kueue A"], PAPER_SPEEDS, QUICK)
    real = []
    for event in found.events:
        late = {"created": 0.0, "admitted": 0.0, "running": 5.0, "finished": 8.0}.get(event.kind)
        if late is not None:
            real.append(TimelineEvent(at=event.at + late, unit=event.unit, kind=event.kind))
    again = delays.simulate_with_delays(found, sorted(real, key=lambda event: event.at))
    assert again.cluster_model.delays.pod_startup == pytest.approx(5)
    assert again.cluster_model.delays.submit_interval == pytest.approx(jobs.SUBMIT_INTERVAL)
    assert again.order[0].startup_seconds == pytest.approx(found.order[0].startup_seconds + 3)
    assert again.stats.makespan > found.stats.makespan


def test_the_page_has_no_holes(paper, tmp_path):
    parts = {"main": tables.build_main_table(paper, paper), "orders": "o", "ratios": "r"}
    document.write_page(tmp_path, paper, simulate_native_orders(8), fit_ratios((2,)), parts, 20)
    page = (tmp_path / "paper.md").read_text()
    assert "{" not in page
    assert "8 → 25" in page
    for name in document.CHARTS:
        assert (tmp_path / f"paper-{charts.file_slug(name)}.svg").exists()
        assert f"paper-{charts.file_slug(name)}.svg" in page


@pytest.mark.parametrize("scale", ["0", "21", "nan"])
def test_time_is_compressed_20_times_at_most(scale, capsys):
    with pytest.raises(SystemExit):
        command.parse_arguments(["--scale", scale])
    assert "--scale is from 1 to 20" in capsys.readouterr().err


def test_an_unknown_arm_is_refused_before_anything_runs(capsys):
    assert command.main(["--only", "Kueue Z"]) == 2
    assert "no arm Kueue Z; there are native," in capsys.readouterr().err
