"""The reader of single series finds what prometheus_client's parser of whole pages finds."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from epp.datalayer.scrape import promtext
from epp.datalayer.scrape.promtext import SeriesReader

NAMES = ["m", "m_total", "m_by_reason", "mm", "a:m", "z"]
texts = st.text(st.sampled_from('ab{}" \\\n#,=mü1.'), max_size=8)
label_sets = st.dictionaries(st.sampled_from(["a", "b", "engine", "le2"]), texts, max_size=3)
numbers = st.one_of(
    st.integers(-5, 10**6).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["+Inf", "-Inf", "1e3", "1.5E-7", "0"]),
)
gaps = st.sampled_from([" ", "\t", "  "])


@st.composite
def lines(draw: st.DrawFn, name: str) -> str:
    labels = draw(label_sets)
    escaped = {k: v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for k, v in labels.items()}
    block = ",".join(f'{key}="{value}"' for key, value in escaped.items())
    comma = draw(st.sampled_from(["", ","])) if labels else ""
    braces = f"{{{block}{comma}}}" if labels or draw(st.booleans()) else ""
    stamp = draw(st.sampled_from(["", "", " 1700000000000"]))
    return f"{name}{braces}{draw(gaps)}{draw(numbers)}{stamp}"


@st.composite
def groups(draw: st.DrawFn, name: str) -> list[str]:
    samples = draw(st.lists(lines(name), min_size=1, max_size=4))
    head = [f"# HELP {name} what {name} 1 is", f"# TYPE {name} gauge"]
    return draw(st.sampled_from([[], head[1:], head])) + samples


@st.composite
def pages(draw: st.DrawFn) -> str:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=len(NAMES)))
    rows = [row for name in names for row in draw(groups(name))]
    newline = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    return "".join(row + newline for row in rows)


def expected(page: str, name: str) -> list[tuple[dict[str, str], float]]:
    # prometheus_client folds m and m_total into families; the sample keeps its own name
    return [
        (dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(page.replace("\r\n", "\n"))
        for sample in family.samples
        if sample.name == name
    ]


@given(st.lists(pages(), min_size=1, max_size=4))
def test_successive_pages_give_the_series_of_the_full_parser(successive: list[str]) -> None:
    for name in NAMES:
        series = SeriesReader(name)
        for page in successive:
            found = [(dict(promtext.parse_labels(block)), value) for block, value in series.read(page.encode())]
            assert found == expected(page, name)
            if not found:
                series.reset()


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_read(before: bytes, after: bytes) -> None:
    series = SeriesReader("m")
    for page in (before + b"\nm" + after, b"# TYPE m gauge\nm{" + after, before + after):
        for block, _ in series.read(page):
            promtext.parse_labels(block)
