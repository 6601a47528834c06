"""bench/paper: the jobs are the paper's, its two results come out, and the page says what was found."""

from __future__ import annotations

import pytest

from bench.paper import __main__ as command
from bench.paper import charts, delays, document, jobs, tables
from bench.paper.arms import ARMS, DAS, NATIVE, simulate
from bench.paper.orders import BY_NAME, GOAL, native_orders, ratios
from epp_batch.planner import FASTER, PAPER, Search
from epp_batch.timeline import Event

QUICK = Search(evaluations=20)


@pytest.fixture(scope="module")
def paper():
    return {arm.name: simulate(arm, PAPER, QUICK) for arm in ARMS}


def test_the_jobs_are_the_papers():
    units = jobs.units()
    hours = {model: sum(unit.seconds for unit in units if unit.model == model) / 3600 for model in ("medium", "large")}
    assert [unit.model for unit in units] == ["medium", "large"] * 16
    assert hours == {"medium": pytest.approx(14.12, abs=0.01), "large": pytest.approx(13.64, abs=0.01)}
    assert max(unit.seconds for unit in units) == 7407


def test_slices_shorten_the_mean_by_36_per_cent_with_25_at_once(paper):
    native, das = paper[NATIVE].figures, paper[DAS].figures
    assert das.mean / native.mean - 1 == pytest.approx(-0.36, abs=0.005)
    assert (native.peak, das.peak) == (8, 25)


def test_queues_bring_15_per_cent_against_some_native_order_but_not_against_that_of_submission(paper):
    found = native_orders(60)
    assert found.gain(found.named["as submitted"]) > -0.05
    assert found.gain(found.shuffled[-1]) < GOAL
    assert 0.1 < found.share_beyond < 0.5
    bound = paper[NATIVE].bound / found.named["as submitted"] - 1
    assert GOAL < bound < 0


def test_queues_bring_15_per_cent_when_large_is_five_times_slower():
    nearest = tables.closest(ratios((2, 5)))
    assert nearest.ratio == 5
    assert nearest.best_queue / nearest.native - 1 == pytest.approx(GOAL, abs=0.01)


def test_ours_are_below_the_papers_best(paper):
    best_mean, best_span = paper[DAS].figures.mean, paper[NATIVE].figures.makespan * (1 + GOAL)
    chosen = paper["ours, slices chosen"].figures
    assert chosen.mean < best_mean
    assert chosen.makespan < best_span
    whole = simulate(BY_NAME["ours, whole GPUs"], PAPER, Search(evaluations=400)).figures
    native = paper[NATIVE].figures
    assert whole.makespan < native.makespan
    assert whole.mean < native.mean


def test_every_job_ends_in_every_arm_for_both_workers(paper):
    for arm in ARMS:
        for found in (paper[arm.name], simulate(arm, FASTER, QUICK)):
            assert (found.figures.units, found.figures.failed) == (32, 0)
            assert found.figures.makespan >= found.bound - 1e-6


def test_a_chart_has_a_bar_for_every_job(paper):
    drawn = charts.svg(paper[DAS])
    assert drawn.startswith("<svg")
    assert all(drawn.count(f"{model}") for model in ("medium", "large"))
    assert sum(drawn.count(unit.tasks[0].stem) > 0 for unit in jobs.units()) == 32


def test_the_model_is_run_again_with_the_delays_of_a_real_run():
    found = simulate(BY_NAME["Kueue A"], PAPER, QUICK)
    real = []
    for event in found.events:
        late = {"created": 0.0, "admitted": 0.0, "running": 5.0, "finished": 8.0}.get(event.kind)
        if late is not None:
            real.append(Event(at=event.at + late, unit=event.unit, kind=event.kind))
    again = delays.again(found, sorted(real, key=lambda event: event.at))
    assert again.world.delays.start == pytest.approx(5)
    assert again.world.delays.submit == pytest.approx(jobs.GAP)
    assert again.order[0].startup == pytest.approx(found.order[0].startup + 3)
    assert again.figures.makespan > found.figures.makespan


def test_the_page_has_no_holes(paper, tmp_path):
    parts = {"main": tables.main_table(paper, paper), "orders": "o", "ratios": "r"}
    document.write(tmp_path, paper, native_orders(8), ratios((2,)), parts, 20)
    page = (tmp_path / "paper.md").read_text()
    assert "{" not in page
    assert "8 → 25" in page
    for name in document.CHARTS:
        assert (tmp_path / f"paper-{charts.slug(name)}.svg").exists()
        assert f"paper-{charts.slug(name)}.svg" in page


@pytest.mark.parametrize("scale", ["0", "21", "nan"])
def test_time_is_compressed_20_times_at_most(scale, capsys):
    with pytest.raises(SystemExit):
        command.arguments(["--scale", scale])
    assert "--scale is from 1 to 20" in capsys.readouterr().err


def test_an_unknown_arm_is_refused_before_anything_runs(capsys):
    assert command.main(["--only", "Kueue Z"]) == 2
    assert "no arm Kueue Z; there are native," in capsys.readouterr().err
