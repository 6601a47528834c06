"""Reading single series from Prometheus text pages."""

import math
from pathlib import Path

import pytest

from epp.datalayer.scrape import promtext
from epp.datalayer.scrape.promtext import ABSENT_RECHECK_PAGES, SeriesReader

CAPTURE = (Path(__file__).parents[3] / "data/vllm/metrics_under_load.txt").read_bytes()
WAITING = "vllm:num_requests_waiting"


def read(page: bytes, name: str = "m") -> list[tuple[dict[str, str], float]]:
    return [(dict(promtext.parse_labels(block)), value) for block, value in SeriesReader(name).read(page)]


def test_a_captured_vllm_page():
    engine = {"engine": "0", "model_name": "tiny"}
    assert read(CAPTURE, WAITING) == [(engine, 24.0)]
    assert read(CAPTURE, "vllm:num_requests_running") == [(engine, 16.0)]
    assert [value for _, value in read(CAPTURE, "vllm:lora_requests_info")] == [
        1.7952417842626665e09,
        1.795241719364886e09,
        1.7952417871502306e09,
    ]
    [(cache, one)] = read(CAPTURE, "vllm:cache_config_info")
    assert (cache["block_size"], cache["num_gpu_blocks"], one) == ("32", "4096", 1.0)


@pytest.mark.parametrize(
    ("page", "samples"),
    [
        (b"m 1\n", [({}, 1.0)]),
        (b"m 1", [({}, 1.0)]),
        (b"m\t1 \n", [({}, 1.0)]),
        (b"# HELP m is m 5\n# TYPE m gauge\nm 1\n", [({}, 1.0)]),
        (b"a 1\nm 2\nz 3\n", [({}, 2.0)]),
        (b"m 2 1700000000000\n", [({}, 2.0)]),
        (b'm{a="b"} 2 1700000000000\n', [({"a": "b"}, 2.0)]),
        (b'm{a="b",} 2\n', [({"a": "b"}, 2.0)]),
        (b'm { a = "b" , c="d" } 2\n', [({"a": "b", "c": "d"}, 2.0)]),
        (b'm{a="b"}2\n', [({"a": "b"}, 2.0)]),
        (b"m{} 2\n", [({}, 2.0)]),
        (b'm{a="1"} 1\nm{a="2"} 2\nm{a="3"} 3\nz 1\n', [({"a": "1"}, 1.0), ({"a": "2"}, 2.0), ({"a": "3"}, 3.0)]),
        (b'm{a="} 5"} 2\n', [({"a": "} 5"}, 2.0)]),
        (b'm{a="x\\"y\\\\z\\n{}#,"} 2\n', [({"a": 'x"y\\z\n{}#,'}, 2.0)]),
        ('m{a="ü"} 2\n'.encode(), [({"a": "ü"}, 2.0)]),
        (b'm{a="b"} 1 # {trace="{t}"} 0.5 1.7e9\n', [({"a": "b"}, 1.0)]),
        (b"m 1.5e-3\n", [({}, 0.0015)]),
        (b"m +Inf\n", [({}, float("inf"))]),
        (b"m -Inf\n", [({}, float("-inf"))]),
        (b"m 1\r\nz 2\r\n", [({}, 1.0)]),
        (b'\r\nm{a="b"} 1\r\nm{a="c"} 2\r\nz 2\r\n', [({"a": "b"}, 1.0), ({"a": "c"}, 2.0)]),
        (b"m_by_reason 7\nm 2\n", [({}, 2.0)]),
        (b"m_by_reason 7\nmm 3\nxm 4\n", []),
        (b"# m 1\n", []),
        (b"", []),
        (b"m", []),
        (b"m \n", []),
        (b"m one\nz 2\n", []),
        (b'm{a="b" 2\n', []),
        (b"m one\nm 2\n", [({}, 2.0)]),
    ],
)
def test_lines_as_exporters_write_them(page, samples):
    assert read(page) == samples


def test_nan_is_a_value():
    [(_, value)] = read(b"m NaN\n")
    assert math.isnan(value)


def test_only_the_given_part_of_a_buffer_is_read():
    buffer = bytearray(b"m 1\nm 2\nm 3\nm 4\n")
    assert SeriesReader("m").read(buffer, 4, 12) == [(b"", 2.0), (b"", 3.0)]
    assert SeriesReader("m").read(buffer, 4, 7) == [(b"", 2.0)]
    assert SeriesReader("m").read(b"z 1\nm 2", 0, 5) == []


def test_successive_pages_with_changed_and_moved_series():
    series = SeriesReader(WAITING)
    page = CAPTURE.replace(b'"tiny"} 24.0', b'"tiny"} 25.0')
    moved = b"# something new at the top\n" * 20 + page
    far = b"# something new at the top\n" * 2000 + page
    more = page.replace(
        WAITING.encode() + b'{engine="0"',
        WAITING.encode() + b'{engine="1",model_name="x"} 1\n' + WAITING.encode() + b'{engine="0"',
    )
    values = [[value for _, value in series.read(p)] for p in (CAPTURE, CAPTURE, page, moved, far, more, CAPTURE)]
    assert values == [[24], [24], [25], [25], [25], [1, 25], [24]]


def test_a_sample_added_at_the_end_is_noticed():
    series = SeriesReader("m")
    head = b"# TYPE m gauge\n"
    assert series.read(head + b"m 1\n") == [(b"", 1.0)]
    assert series.read(head + b'm 1\nm{a="b"} 2\n') == [(b"", 1.0), (b'{a="b"}', 2.0)]
    assert series.read(head + b"m 1\n#\n") == [(b"", 1.0)]


def test_a_comment_that_ends_like_a_sample_is_not_used_as_anchor():
    long = "l" * 100
    group = f'# HELP m x"}} 1.0\nm{{a="{long}x"}} 1.0\nm{{a="y"}} 2.0\n'.encode()
    series = SeriesReader("m")
    before = [value for _, value in series.read(b"#" * 600 + b"\n" + group)]
    assert before == [value for _, value in series.read(group)] == [1.0, 2.0]


def test_an_unchanged_series_is_the_same_list():
    series = SeriesReader(WAITING)
    assert series.read(CAPTURE) is series.read(bytearray(CAPTURE))


def test_a_longer_name_is_not_mistaken_for_the_metric():
    series = SeriesReader("m")
    assert series.read(b"# TYPE m gauge\nm 1\n") == [(b"", 1.0)]
    assert series.read(b"# TYPE m_total gauge\nm_total 9\n") == []


def test_an_absent_metric_is_searched_for_again_after_some_pages():
    series = SeriesReader("m")
    assert series.read(b"z 1\n") == []
    answers = [series.read(b"m 1\n") for _ in range(ABSENT_RECHECK_PAGES)]
    assert answers == [[]] * (ABSENT_RECHECK_PAGES - 1) + [[(b"", 1.0)]]
    series.read(b"z 1\n")
    series.reset()
    assert series.read(b"m 1\n") == [(b"", 1.0)]
