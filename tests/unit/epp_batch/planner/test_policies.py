"""Orders: what each is good for, and that the search never does worse than what it starts from."""

from __future__ import annotations

import random

import pytest

from epp_batch.errors import InputError
from epp_batch.planner import PAPER, Aim, Delays, Search, arrange, bound, in_order, machine, outcome, predict, run
from epp_batch.planner.demand import demands
from epp_batch.planner.policies import starts
from epp_batch.planner.world import World
from epp_batch.spec import Cluster, Placement, Recording, Task, Unit
from tests.unit.epp_batch.planner.builders import demand, paper_demands, paper_units

SLICES = {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"}
SHORT = Search(evaluations=200)


def test_longest_first_is_by_time_not_by_audio():
    wanted = [demand("a", work=1), demand("b", work=3), demand("c", work=2)]
    assert [one.unit for one in arrange("longest", wanted, World(nodes=machine()))] == ["b", "c", "a"]
    assert arrange("submission", wanted, World(nodes=machine())) == wanted


@pytest.mark.parametrize("accelerators", [{"*": "gpu"}, SLICES])
@pytest.mark.parametrize("aim", [Aim(), Aim(mean=0), Aim(makespan=0)])
def test_the_search_is_no_worse_than_any_order_it_starts_from(accelerators, aim):
    world = World(nodes=machine(sharing="whole" if "*" in accelerators else "das"), delays=Delays(submit=1))
    wanted = paper_demands(world, accelerators)
    random.Random(3).shuffle(wanted)

    def cost(order):
        got = outcome(run(world, order))
        mean = sum(demand.seconds for demand in order) / len(order)
        return aim.makespan * got.makespan / bound(order, world.nodes) + aim.mean * got.mean / mean

    found = arrange("slots", wanted, world, PAPER, Search(aim=aim, evaluations=60))
    assert sorted(one.unit for one in found) == sorted(one.unit for one in wanted)
    assert cost(found) <= min(cost(order) for order in starts(wanted))


def test_one_seed_one_order():
    world = World(nodes=machine(sharing="das"))
    wanted = paper_demands(world, SLICES)
    assert arrange("slots", wanted, world, PAPER, SHORT) == arrange("slots", wanted, world, PAPER, SHORT)


def test_whole_gpus_for_the_longest_shorten_a_run_that_one_recording_decides():
    world = World(nodes=machine(sharing="das"), delays=Delays(submit=1))
    wanted = paper_demands(world, SLICES)
    slots = outcome(run(world, arrange("slots", wanted, world, PAPER, SHORT)))
    order = arrange("mixed", wanted, world, PAPER, SHORT)
    mixed = outcome(run(world, order))
    assert mixed.makespan < 0.75 * slots.makespan
    assert mixed.mean < slots.mean
    assert {one.shape.profile for one in order} == {"1g.5gb", "3g.20gb", "7g.40gb"}
    assert max(order, key=lambda one: one.work * one.slots).shape.profile == "7g.40gb"


def test_units_in_and_units_out():
    cluster = Cluster(
        namespace="b", queue="q", image="i", placements={m: Placement(accelerator=a) for m, a in SLICES.items()}
    )
    world, units = World(nodes=machine(sharing="das")), paper_units()
    found = in_order(units, cluster, world, speeds=PAPER, search=SHORT)
    assert sorted(unit.name for unit in found) == sorted(unit.name for unit in units)
    assert outcome(predict(units, cluster, world, speeds=PAPER)).peak == 25


def unit(name: str, seconds: float | None, model: str = "large") -> Unit:
    return Unit(name=name, tasks=(Task(recording=Recording(source=name, stems=(name,), seconds=seconds), model=model),))


def test_an_unknown_length_counts_as_the_mean_of_its_model():
    cluster, world = Cluster(namespace="b", queue="q", image="i"), World(nodes=machine())
    units = [unit("a", 100), unit("b", 300), unit("c", None), unit("d", 1000, "medium"), unit("e", None, "small")]
    works = {one.unit: one.work for one in demands(units, cluster, PAPER, world)}
    assert works["c"] == pytest.approx((works["a"] + works["b"]) / 2)
    assert works["e"] == pytest.approx(1400 / 3 * PAPER.factor("small"))
    with pytest.raises(InputError, match="no recording's length is known"):
        demands([unit("a", None)], cluster, PAPER, world)


def test_a_slice_that_no_node_has_is_refused():
    cluster = Cluster(namespace="b", queue="q", image="i", placements={"*": Placement(accelerator="mig:3g.40gb")})
    with pytest.raises(InputError, match=r"no node has a slice 3g.40gb: there is A100-40"):
        demands([unit("a", 1)], cluster, PAPER, World(nodes=machine(sharing="das")))
