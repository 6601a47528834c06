"""The chart: well-formed, in bounds, and with everything in it, whatever it is drawn of."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from random import Random

import pytest

from epp_batch.report import build_report, places
from epp_batch.report.render import gantt, lanes, scale
from epp_batch.report.render.frame import CHART_WIDTH
from tests.unit.epp_batch.report.given import attempt_events, build_event, build_run, build_task, run_with_eviction

SVG = "{http://www.w3.org/2000/svg}"


def drawn(report, **options):
    return ET.fromstring(gantt.render_svg(report, **options))


def bars(root):
    return [group for group in root.iter(f"{SVG}g") if group.get("data-unit") is not None]


def titles(root):
    return [title.text for title in root.iter(f"{SVG}title")]


def texts(root):
    return [text.text for text in root.iter(f"{SVG}text")]


def many(units, gpus, slots):
    """One after the other on each device, with slices of all sizes where `slots`."""
    random = Random(units)
    parts = [(0, 3), (4, 4), (5, 5), (6, 6)] if slots else [None]
    free = {(gpu, part): 0.0 for gpu in range(gpus) for part in parts}
    made, events = [], []
    for number in range(units):
        gpu, part = min(free, key=free.__getitem__)
        begin, end = free[gpu, part], free[gpu, part] + random.uniform(30, 900)
        free[gpu, part] = end
        made.append((f"u{number}", build_task(f"calls/call-{number:04d}", random.choice(["medium", "large"]))))
        where = f"node/gpu-{gpu}" + (f"/{part[0]}-{part[1]}" if part else "")
        events += attempt_events(f"u{number}", 0, begin, begin + 5, end, where)
    return build_report(build_run(*made), events, {}, [])


@pytest.mark.parametrize(
    ("units", "gpus", "slots"), [(32, 8, False), (32, 8, True), (1000, 8, True), (1000, 200, False)]
)
def test_every_attempt_has_a_bar_within_the_picture(units, gpus, slots):
    root = drawn(many(units, gpus, slots))
    assert len(bars(root)) == units
    height = float(root.get("viewBox").split()[3])
    for rect in root.iter(f"{SVG}rect"):
        left, top = float(rect.get("x")), float(rect.get("y"))
        assert left >= 0
        assert left + float(rect.get("width")) <= CHART_WIDTH
        assert top >= 0
        assert top + float(rect.get("height")) <= height


@pytest.mark.parametrize("slots", [False, True])
def test_bars_do_not_cover_each_other(slots):
    report = many(200, 4, slots)
    for group in lanes.group_by_device(report.spans):
        for lane in range(group.lane_count):
            inside = [bar.span for bar in group.bars if bar.first_lane <= lane <= bar.last_lane]
            for before, after in pairwise(inside):
                assert before.ended <= after.allocated


def test_an_eviction_is_marked_and_told():
    root = drawn(build_report(*run_with_eviction(), {}, []))
    assert len([path for path in root.iter(f"{SVG}path") if path.get("class") == "mark"]) == 2  # one in the legend
    assert any("evicted: Preempted: InClusterQueue" in title for title in titles(root))
    assert "evicted" in texts(root)


def test_failures_are_hatched_with_a_pattern_of_their_own():
    made = build_run(("a", build_task("x")))
    report = build_report(
        made, attempt_events("a", 0, 1, 2, 10, "n/gpu-0", "failed", detail="decode: it breaks off"), {}, []
    )
    text = gantt.render_svg(report, ident="second")
    assert 'id="second-hatch"' in text
    assert "url(#second-hatch)" in text
    assert any("failed: decode: it breaks off" in title for title in titles(ET.fromstring(text)))


def test_names_of_files_cannot_break_out():
    made = build_run(("a", build_task('<script>alert("1")</script>&')))
    text = gantt.render_svg(build_report(made, attempt_events("a", 0, 1, 2, 900, 'n/"><b>'), {}, []))
    ET.fromstring(text)
    assert "<script" not in text
    assert "<b>" not in text


def test_two_charts_share_a_scale():
    report = build_report(*run_with_eviction(), {}, [])
    alone, longer = drawn(report), drawn(report, length=2 * report.length)
    first, half = (float(list(bars(root)[-1].iter(f"{SVG}rect"))[-1].get("width")) for root in (alone, longer))
    assert half == pytest.approx(first / 2, abs=0.2)


def test_colours_follow_the_order_that_is_given():
    text = gantt.render_svg(build_report(*run_with_eviction(), {}, []), models=["large", "medium"])
    assert '<rect class="m0" x' in text
    assert text.index(">large<") < text.index(">medium<")


@pytest.mark.parametrize("events", [[], [build_event(0, "a", "created")], attempt_events("a", 5, 5, 5, 5, "")])
def test_nothing_and_no_time_are_drawn_too(events):
    drawn(build_report(build_run(("a", build_task("x"))), events, {}, []))


def test_where_places_overlap_there_are_as_many_lanes():
    made = build_run(*((name, build_task(name)) for name in "abc"))
    events = [event for name in "abc" for event in attempt_events(name, 0, 1, 2, 100, "node-1")]
    (group,) = lanes.group_by_device(build_report(made, events, {}, []).spans)
    assert (group.device, group.lane_count, group.has_slots) == ("node-1", 3, False)


def test_clocks_that_disagree_open_no_second_lane():
    made = build_run(("a", build_task("x")), ("b", build_task("y")))
    spans = build_report(
        made, [*attempt_events("a", 0, 1, 2, 100.6, "n"), *attempt_events("b", 0, 100, 102, 200, "n")], {}, []
    ).spans
    assert [group.lane_count for group in lanes.group_by_device(spans)] == [2]
    assert [group.lane_count for group in lanes.group_by_device(spans, 1.0)] == [1]


def test_a_whole_gpu_covers_all_slots():
    made = build_run(("a", build_task("x")), ("b", build_task("y")))
    spans = build_report(
        made, [*attempt_events("a", 0, 1, 2, 10, "n/gpu-0/2-3"), *attempt_events("b", 0, 11, 12, 20, "n/gpu-0")], {}, []
    ).spans
    (group,) = lanes.group_by_device(spans)
    assert [(bar.first_lane, bar.last_lane) for bar in group.bars] == [(2, 3), (0, 7)]


@pytest.mark.parametrize(
    ("place", "device", "slots"),
    [
        ("n/gpu-3/4-7", "n/gpu-3", (4, 7)), ("n/gpu-3/4", "n/gpu-3", (4, 4)), ("n/gpu-3", "n/gpu-3", None),
        ("n", "n", None), ("n/gpu-3/7-4", "n/gpu-3/7-4", None), ("", "", None),
        ("local/worker-2", "local/worker-2", None),
    ],
)  # fmt: skip
def test_places(place, device, slots):
    assert places.parse_place(place) == (device, slots)


def test_gpu_10_stands_after_gpu_9():
    assert sorted(["n/gpu-10", "n/gpu-9", "m/gpu-0", "10", ""], key=places.natural_sort_key) == [
        "", "10", "m/gpu-0", "n/gpu-9", "n/gpu-10"
    ]  # fmt: skip


@pytest.mark.parametrize("length", [0.35, 1, 4.2, 59, 61, 3_434, 49_000, 90_000, 700_000, 40_000_000])
def test_ticks_are_few_round_and_within(length):
    found = scale.tick_times(length, 13)
    assert found[0] == 0
    assert 3 <= len(found) <= 13
    assert found[-1] <= length
    names = [scale.format_tick(tick, length) for tick in found]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("seconds", "length", "name"),
    [
        (0, 10, "0"), (2.5, 10, "2.5 s"), (30, 300, "0:30 min"), (600, 3_000, "10 min"), (5_400, 9_000, "1:30 h"),
        (7_200, 90_000, "2 h"), (108_000, 700_000, "1 d 6 h"), (172_800, 700_000, "2 d"),
    ],
)  # fmt: skip
def test_names_of_ticks(seconds, length, name):
    assert scale.format_tick(seconds, length) == name
