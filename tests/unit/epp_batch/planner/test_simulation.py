"""Runs in virtual time: the paper's figures, preemption, and what could never run."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.planner import Delays, machine, outcome, run
from epp_batch.planner.outcome import bound
from epp_batch.planner.world import Kueue, PodsReady, Preemption, World
from tests.unit.epp_batch.planner.builders import demand, kueue, paper_demands, queue

MINUTE = 60
PREEMPTING = Preemption(within="LowerPriority")


def spans(events, kind="finished"):
    return {event.unit: event.at for event in events if event.kind == kind}


def test_the_papers_mean_of_28_minutes_on_whole_gpus():
    world = World(nodes=machine(), delays=Delays(submit=1))
    got = outcome(run(world, paper_demands(world, {"*": "gpu"})))
    assert got.mean / MINUTE == pytest.approx(28, abs=0.1)
    assert got.makespan / MINUTE == pytest.approx(51.4, abs=0.1)
    assert got.peak == 8


def test_the_papers_mean_of_18_minutes_and_25_at_once_on_slices():
    world = World(nodes=machine(sharing="das"), delays=Delays(submit=1))
    wanted = paper_demands(world, {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"})
    got = outcome(run(world, wanted))
    assert got.mean / MINUTE == pytest.approx(18, abs=0.1)
    assert got.peak == 25
    assert got.makespan == pytest.approx(bound(wanted, world.nodes), abs=4)


@pytest.mark.parametrize(("resumes", "end"), [(True, 260), (False, 310)])
def test_a_preempted_worker_goes_on_or_starts_anew(resumes, end):
    world = World(
        nodes=machine(gpus=1),
        kueue=kueue(queue("q", 1, preemption=PREEMPTING)),
        delays=Delays(requeue=0),
        resumes=resumes,
    )
    low = msgspec.structs.replace(demand("low", work=140), startup=10)
    events = run(world, [low, demand("high", priority=9, work=100)], [0, 60])
    assert spans(events, "evicted") == {"low": 60}
    assert spans(events) == {"high": 160, "low": end}
    assert [event.attempt for event in events if event.kind == "running" and event.unit == "low"] == [1, 2]


def test_freed_quota_is_looked_at_again_a_second_later():
    world = World(nodes=machine(gpus=1), kueue=kueue(queue("q", 1)))
    assert spans(run(world, [demand("a"), demand("b")]), "admitted") == {"a": 0, "b": 101}


def test_delays_of_start_stop_and_end_add_up():
    delays = Delays(requeue=1, start=2, finish=3)
    world = World(nodes=machine(gpus=1), kueue=kueue(queue("q", 1)), delays=delays)
    assert spans(run(world, [demand("a"), demand("b")]), "running") == {"a": 2, "b": 2 + 100 + 3 + 1 + 2}


def test_a_pod_that_is_evicted_before_it_starts_never_runs_and_one_that_stops_does_not_finish():
    world = World(
        nodes=machine(gpus=1),
        kueue=kueue(queue("q", 1, preemption=PREEMPTING)),
        delays=Delays(requeue=1, start=5, stop=10),
        resumes=False,
    )
    events = run(world, [demand("low"), demand("high", priority=9)], [0, 2])
    assert spans(events, "evicted") == {"low": 2}
    assert spans(events, "running") == {"high": 17, "low": 123}
    late = run(world, [demand("low"), demand("high", priority=9)], [0, 100])
    assert [event.at for event in late if event.unit == "low" and event.kind == "finished"] == [
        100 + 10 + 105 + 1 + 105
    ]
    assert outcome(late).peak == 1


def test_quota_for_a_gpu_that_is_taken_comes_back_and_the_workload_is_given_up_in_the_end():
    ready = PodsReady(timeout=30, backoff_base=60, backoff_limit=2)
    world = World(nodes=machine(gpus=1), kueue=kueue(queue("q", 9), pods_ready=ready))
    all_events = run(world, [demand("first", work=10_000), demand("second")])
    events = [event for event in all_events if event.unit == "second"]
    times = [
        (event.at, event.kind, event.detail) for event in events if event.kind in {"admitted", "evicted", "failed"}
    ]
    assert [(kind, detail) for _, kind, detail in times[:4]] == [
        ("admitted", ""), ("evicted", "PodsReadyTimeout"), ("admitted", ""), ("evicted", "PodsReadyTimeout"),
    ]  # fmt: skip
    assert times[1][0] == 30
    assert times[2][0] == pytest.approx(90, abs=2)
    assert times[-1][1:] == ("failed", "deactivated: its pods were not ready in time too often")


def test_what_can_never_fit_is_given_up_at_the_first_timeout_even_without_a_limit():
    world = World(nodes=machine(gpus=1), kueue=kueue(queue("q", 9), pods_ready=PodsReady(timeout=30)))
    events = run(world, [demand("big", gpus=2), demand("small")])
    assert [(event.at, event.detail) for event in events if event.kind == "failed"] == [
        (30, "admitted, but no node has what it asks for")
    ]
    assert spans(events) == {"small": 100}


def test_a_pod_that_gets_its_place_late_is_not_given_up_without_a_limit():
    world = World(nodes=machine(gpus=1), kueue=kueue(queue("q", 9), pods_ready=PodsReady(timeout=30)))
    events = run(world, [demand("first", work=1000), demand("second")])
    assert spans(events)["first"] == 1000
    assert 1000 < spans(events)["second"] < 1000 + 2 * 1000
    assert outcome(events).failed == 0


@pytest.mark.parametrize(
    ("kind", "wanted", "why"),
    [
        (kueue(queue("q", 4)), demand("u", "elsewhere"), "no LocalQueue elsewhere"),
        (Kueue(queues=(), local={"q": "gone"}), demand("u"), "LocalQueue q needs ClusterQueue gone"),
        (kueue(queue("q", 1)), demand("u", gpus=2), "never admitted: nvidia.com/gpu: 2 asked for, but flavor f of"),
        (kueue(queue("q", 9)), demand("u", accelerator="mig:1g.5gb"), "never admitted: nvidia.com/mig-1g.5gb is not"),
        (kueue(queue("q", 9)), demand("u", gpus=9), "admitted, but no node has what it asks for"),
        (kueue(queue("q", 9, stopped=True)), demand("u"), "never admitted: ClusterQueue q is stopped"),
        (None, demand("u", gpus=9), "no node has what it asks for"),
    ],
)
def test_whoever_could_never_run_says_why(kind, wanted, why):
    events = run(World(nodes=machine(), kueue=kind), [wanted])
    assert events[-1].kind == "failed"
    assert events[-1].detail.startswith(why)
    assert outcome(events).failed == 1


def test_equal_input_gives_equal_events():
    world = World(nodes=machine(), kueue=kueue(queue("q", 8)), delays=Delays(submit=1))
    wanted = paper_demands(world, {"*": "gpu"})
    assert run(world, wanted) == run(world, wanted)
