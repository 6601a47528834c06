"""Task keys, durations, placements and JSON of the run's specification."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.spec import ClusterOptions, Placement, Recording, Run, Task, TranscriptionOptions, Unit, WorkOrder

CALL = Recording(source="a/call.mp3", stems=("call",), sha256="ab" * 32, seconds=60.0)


def test_key_depends_on_content_not_on_the_name():
    copy = Recording(source="b/copy.mp3", stems=("copy",), sha256=CALL.sha256, seconds=60.0)
    assert Task(recording=CALL, model="tiny.en").key(TranscriptionOptions()) == Task(
        recording=copy, model="tiny.en"
    ).key(TranscriptionOptions())


@pytest.mark.parametrize(
    "other",
    [
        Task(recording=CALL, model="base"),
        Task(recording=Recording(source="a/call.mp3", stems=("call",), sha256="cd" * 32), model="tiny.en"),
    ],
)
def test_key_depends_on_content_and_model(other):
    assert other.key(TranscriptionOptions()) != Task(recording=CALL, model="tiny.en").key(TranscriptionOptions())


def test_key_depends_on_every_option():
    task = Task(recording=CALL, model="tiny.en")
    changed = {
        "language": "de",
        "task": "translate",
        "beam_size": 1,
        "batch_size": 1,
        "vad": False,
        "word_timestamps": False,
        "compute_type": "int8",
        "initial_prompt": "Earnings",
        "formats": ("txt",),
    }
    assert set(changed) == set(TranscriptionOptions.__struct_fields__)
    keys = {
        task.key(msgspec.structs.replace(TranscriptionOptions(), **{name: value})) for name, value in changed.items()
    }
    assert len(keys | {task.key(TranscriptionOptions())}) == len(changed) + 1


def test_key_of_an_unread_url_depends_on_its_text():
    first, second = (
        Task(recording=Recording(source=url, stems=("x",)), model="m") for url in ("http://a/x", "http://b/x")
    )
    assert first.key(TranscriptionOptions()) != second.key(TranscriptionOptions())


def test_duration_of_a_shard():
    short, unknown = (
        Task(recording=Recording(source="s", stems=("s",), seconds=seconds), model="m") for seconds in (5.0, None)
    )
    assert Unit(name="u", tasks=(short, short)).seconds == 10.0
    assert Unit(name="u", tasks=(short, unknown)).seconds is None


def test_placement_of_a_model():
    large, rest = Placement(accelerator="mig:3g.20gb"), Placement(accelerator="mig:1g.5gb")
    cluster = ClusterOptions(namespace="n", queue="q", image="i", placements={"large": large, "*": rest})
    assert cluster.placement_for("large") is large
    assert cluster.placement_for("medium") is rest
    assert ClusterOptions(namespace="n", queue="q", image="i").placement_for("medium") == Placement()


@pytest.mark.parametrize(
    "value",
    [
        Run(
            name="r",
            output="/o",
            options=TranscriptionOptions(),
            units=(Unit(name="u", tasks=(Task(recording=CALL, model="m"),)),),
        ),
        WorkOrder(
            run="r",
            unit="u",
            output="/o",
            options=TranscriptionOptions(language="en"),
            tasks=(Task(recording=CALL, model="m"),),
        ),
    ],
)
def test_json_round_trip(value):
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
