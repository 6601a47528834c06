"""Units of a run: merging of equal content, shards, order, and stable names."""

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


def build(recordings, *rules, options=OPTIONS, **more):
    return build_units(recordings, ModelRules(rules, "base"), options, run="r", **more)


def stems(units):
    return [[task.stem for task in unit.tasks] for unit in units]


def test_unit_name_is_derived_from_content_model_and_options():
    first, second = build([recording("a"), recording("b")])
    assert first.name == f"r-{first.tasks[0].key(OPTIONS)}"
    assert first.name != second.name
    assert build([recording("a")], "large")[0].name != first.name
    assert build([recording("a")], options=TranscriptionOptions(language="de"))[0].name != first.name


def test_equal_content_becomes_one_task_with_two_stems():
    (unit,) = build([recording("a", content="x"), recording("b", content="x")])
    assert unit.tasks[0].recording.stems == ("a", "b")


def test_equal_content_for_two_models_becomes_two_tasks():
    units = build([recording("a", content="x"), recording("b", content="x")], "b.mp3=large")
    assert [(unit.model, unit.tasks[0].stem) for unit in units] == [("base", "a"), ("large", "b")]


def test_longest_first_sorts_unknown_lengths_as_the_mean():
    recordings = [recording("a", 10), recording("b", None), recording("c", 90), recording("d", 20), recording("e", 90)]
    assert stems(build(recordings, order="longest")) == [["c"], ["e"], ["b"], ["d"], ["a"]]
    assert stems(build(recordings)) == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_order_by_slots_uses_the_arrange_callback():
    recordings = [recording("a"), recording("b")]
    assert stems(build(recordings, order="slots", arrange=lambda units: units[::-1])) == [["b"], ["a"]]
    with pytest.raises(InputError, match="--order longest"):
        build(recordings, order="slots")


def test_short_recordings_of_one_model_share_a_shard():
    recordings = [recording("a", 30), recording("b", 40), recording("c", 20), recording("d", 500), recording("e", None)]
    units = build(recordings, "b.mp3=large", shard_seconds=60)
    assert stems(units) == [["a", "c"], ["b"], ["d"], ["e"]]
    assert units[0].seconds == 50


def test_previous_stem_stays_first():
    previous = build([recording("old", content="x")])
    (unit,) = build([recording("a", content="x"), recording("old", content="x")], previous=previous)
    assert unit.tasks[0].recording.stems == ("old", "a")
    (renamed,) = build([recording("new", content="x")], previous=previous)
    assert renamed.tasks[0].recording.stems == ("old", "new")
    assert renamed.name == previous[0].name


def test_previous_stem_is_dropped_if_another_recording_has_it_now():
    previous = build([recording("call", content="x")])
    units = build([recording("moved", content="x"), recording("call", content="y")], previous=previous)
    assert [unit.tasks[0].recording.stems for unit in units] == [("moved",), ("call",)]


def test_previous_shards_stay_unchanged_when_recordings_are_added():
    first = build([recording("b", 20), recording("c", 20), recording("d", 20)], shard_seconds=60)
    later = [recording("a", 20), recording("b", 20), recording("c", 20), recording("d", 20)]
    assert stems(build(later, shard_seconds=60)) == [["a", "b", "c"], ["d"]]
    kept = build(later, shard_seconds=60, previous=first)
    assert stems(kept) == [["a"], ["b", "c", "d"]]
    assert kept[1].name == first[0].name
    single = build([recording("b", 20)])
    assert stems(build(later, shard_seconds=60, previous=single)) == [["a", "c", "d"], ["b"]]
    assert stems(build(later, previous=first)) == [["a"], ["b"], ["c"], ["d"]]


def test_shard_size_is_limited_by_the_environment_variable():
    recordings = [recording(f"{'long' * 40}{number}", 0.1) for number in range(2_000)]
    units = build(recordings, shard_seconds=3600)
    assert len(units) > 1
    assert max(len(msgspec.json.encode(unit.tasks)) for unit in units) < MAX_SHARD_BYTES + 2_000


contents = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"), max_size=4)


@given(st.lists(contents, min_size=1, max_size=4))
def test_stems_stay_unique_over_repeated_submissions(submissions):
    previous = []
    for files in submissions:
        previous = build([recording(name, content=content) for name, content in files.items()], previous=previous)
        written = [stem for unit in previous for stem in unit.tasks[0].recording.stems]
        assert len(written) == len(set(written))
        assert set(files) <= set(written)


lengths = st.lists(st.one_of(st.none(), st.floats(0.1, 500)), max_size=20)


@given(lengths, st.one_of(st.none(), st.floats(1, 300)), st.sampled_from(["submission", "longest"]), st.integers())
def test_every_task_is_in_exactly_one_unit(seconds, limit, order, seed):
    recordings = [recording(f"f{index}", length) for index, length in enumerate(seconds)]
    units = build(recordings, order=order, shard_seconds=limit)
    assert sorted(stem for shard in stems(units) for stem in shard) == sorted(one.stems[0] for one in recordings)
    assert len({unit.name for unit in units}) == len(units)
    assert all(len(unit.tasks) == 1 or unit.seconds <= limit + 1e-6 for unit in units)
    random.Random(seed).shuffle(recordings)
    if limit is None:
        assert {unit.name for unit in build(recordings, order=order)} == {unit.name for unit in units}
    again = build(recordings, order=order, shard_seconds=limit, previous=units)
    assert {unit.name for unit in again} == {unit.name for unit in units}
