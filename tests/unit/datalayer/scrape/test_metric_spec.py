"""Metric specifications of configurations, and the cache of parsed labels."""

import pytest

from epp.datalayer.scrape.metric_spec import MAX_CACHED_BLOCKS, LabelCache, MetricSpec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("", None),
        ("  ", None),
        ("m", MetricSpec("m")),
        ("vllm:num_requests_waiting", MetricSpec("vllm:num_requests_waiting")),
        ("m{}", MetricSpec("m")),
        ("m{a=b}", MetricSpec("m", {"a": "b"})),
        ("m{a=b,c=d}", MetricSpec("m", {"a": "b", "c": "d"})),
        (' m { a = "b" , c = d-1.5 } ', MetricSpec("m", {"a": "b", "c": "d-1.5"})),
        ('m{a="b,}\\""}', MetricSpec("m", {"a": 'b,}"'})),
        ("m{a=b,}", MetricSpec("m", {"a": "b"})),
    ],
)
def test_specifications(text, spec):
    assert MetricSpec.parse(text) == spec


@pytest.mark.parametrize("text", ["1m", "m{", "m{a}", "m{a=}", "m{=b}", "m{a=b c=d}", "m}a=b{", "a b", "m{a!=b}"])
def test_malformed_specifications_are_rejected(text):
    with pytest.raises(ValueError, match="invalid metric specification"):
        MetricSpec.parse(text)


def test_the_label_cache_is_bounded():
    labels = LabelCache()
    block = b'{a="b"}'
    assert labels.parse(block) is labels.parse(bytes(block))
    for i in range(2 * MAX_CACHED_BLOCKS):
        assert labels.parse(b'{a="%d"}' % i) == {"a": str(i)}
