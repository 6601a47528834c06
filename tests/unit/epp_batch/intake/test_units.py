"""Recordings to units: named by what they do, so that the same work is the same unit."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.errors import InputError
from epp_batch.intake import ModelRules, build_units
from epp_batch.intake.units import MAX_SHARD_BYTES
from epp_batch.spec import Recording, TranscriptionOptions

OPTIONS = TranscriptionOptions()


def recording(name, seconds=60.0, content=None):
    return Recording(source=f"/a/{name}.mp3", stems=(name,), sha256=content or f"sha-{name}", seconds=seconds)


def made(recordings, *rules, options=OPTIONS, **more):
    return build_units(recordings, ModelRules(rules, "base"), options, run="r", **more)


def stems(found):
    return [[task.stem for task in unit.tasks] for unit in found]


def test_one_recording_a_unit_named_by_its_work():
    first, second = made([recording("a"), recording("b")])
    assert first.name == f"r-{first.tasks[0].key(OPTIONS)}"
    assert first.name != second.name
    assert made([recording("a")], "large")[0].name != first.name
    assert made([recording("a")], options=TranscriptionOptions(language="de"))[0].name != first.name


def test_equal_content_is_one_task_with_two_names():
    (unit,) = made([recording("a", content="x"), recording("b", content="x")])
    assert unit.tasks[0].recording.stems == ("a", "b")


def test_equal_content_for_two_models_is_two_tasks():
    found = made([recording("a", content="x"), recording("b", content="x")], "b.mp3=large")
    assert [(unit.model, unit.tasks[0].stem) for unit in found] == [("base", "a"), ("large", "b")]


def test_the_longest_first_and_unknown_lengths_in_the_middle():
    recordings = [recording("a", 10), recording("b", None), recording("c", 90), recording("d", 20), recording("e", 90)]
    assert stems(made(recordings, order="longest")) == [["c"], ["e"], ["b"], ["d"], ["a"]]
    assert stems(made(recordings)) == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_slots_are_arranged_by_somebody_who_knows_them():
    recordings = [recording("a"), recording("b")]
    assert stems(made(recordings, order="slots", arrange=lambda found: found[::-1])) == [["b"], ["a"]]
    with pytest.raises(InputError, match="--order longest"):
        made(recordings, order="slots")


def test_short_ones_go_together_by_model():
    recordings = [recording("a", 30), recording("b", 40), recording("c", 20), recording("d", 500), recording("e", None)]
    found = made(recordings, "b.mp3=large", shard_seconds=60)
    assert stems(found) == [["a", "c"], ["b"], ["d"], ["e"]]
    assert found[0].seconds == 50


def test_the_name_that_a_recording_had_stays_first():
    before = made([recording("old", content="x")])
    (unit,) = made([recording("a", content="x"), recording("old", content="x")], before=before)
    assert unit.tasks[0].recording.stems == ("old", "a")
    (renamed,) = made([recording("new", content="x")], before=before)
    assert renamed.tasks[0].recording.stems == ("old", "new")
    assert renamed.name == before[0].name


def test_a_name_that_another_recording_has_now_is_given_up():
    before = made([recording("call", content="x")])
    found = made([recording("moved", content="x"), recording("call", content="y")], before=before)
    assert [unit.tasks[0].recording.stems for unit in found] == [("moved",), ("call",)]


def test_running_shards_stay_when_others_come():
    first = made([recording("b", 20), recording("c", 20), recording("d", 20)], shard_seconds=60)
    later = [recording("a", 20), recording("b", 20), recording("c", 20), recording("d", 20)]
    assert stems(made(later, shard_seconds=60)) == [["a", "b", "c"], ["d"]]
    kept = made(later, shard_seconds=60, before=first)
    assert stems(kept) == [["a"], ["b", "c", "d"]]
    assert kept[1].name == first[0].name
    single = made([recording("b", 20)])
    assert stems(made(later, shard_seconds=60, before=single)) == [["a", "c", "d"], ["b"]]
    assert stems(made(later, before=first)) == [["a"], ["b"], ["c"], ["d"]]


def test_a_shard_fits_into_an_environment_variable():
    recordings = [recording(f"{'long' * 40}{number}", 0.1) for number in range(2_000)]
    found = made(recordings, shard_seconds=3600)
    assert len(found) > 1
    assert max(len(msgspec.json.encode(unit.tasks)) for unit in found) < MAX_SHARD_BYTES + 2_000


contents = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"), max_size=4)


@given(st.lists(contents, min_size=1, max_size=4))
def test_no_two_tasks_write_one_file_however_often_files_move(submissions):
    before = []
    for files in submissions:
        before = made([recording(name, content=content) for name, content in files.items()], before=before)
        written = [stem for unit in before for stem in unit.tasks[0].recording.stems]
        assert len(written) == len(set(written))
        assert set(files) <= set(written)


lengths = st.lists(st.one_of(st.none(), st.floats(0.1, 500)), max_size=20)


@given(lengths, st.one_of(st.none(), st.floats(1, 300)), st.sampled_from(["submission", "longest"]), st.integers())
def test_every_task_is_in_one_unit_whatever_the_order(seconds, limit, order, seed):
    recordings = [recording(f"f{index}", length) for index, length in enumerate(seconds)]
    found = made(recordings, order=order, shard_seconds=limit)
    assert sorted(stem for shard in stems(found) for stem in shard) == sorted(one.stems[0] for one in recordings)
    assert len({unit.name for unit in found}) == len(found)
    assert all(len(unit.tasks) == 1 or unit.seconds <= limit + 1e-6 for unit in found)
    random.Random(seed).shuffle(recordings)
    if limit is None:
        assert {unit.name for unit in made(recordings, order=order)} == {unit.name for unit in found}
    again = made(recordings, order=order, shard_seconds=limit, before=found)
    assert {unit.name for unit in again} == {unit.name for unit in found}
