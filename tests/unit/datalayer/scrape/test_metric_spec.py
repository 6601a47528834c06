import pytest

from epp.datalayer.scrape.metric_spec import MEMO_LIMIT, Labels, Spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("", None),
        ("  ", None),
        ("m", Spec("m")),
        ("vllm:num_requests_waiting", Spec("vllm:num_requests_waiting")),
        ("m{}", Spec("m")),
        ("m{a=b}", Spec("m", {"a": "b"})),
        ("m{a=b,c=d}", Spec("m", {"a": "b", "c": "d"})),
        (' m { a = "b" , c = d-1.5 } ', Spec("m", {"a": "b", "c": "d-1.5"})),
        ('m{a="b,}\\""}', Spec("m", {"a": 'b,}"'})),
        ("m{a=b,}", Spec("m", {"a": "b"})),
    ],
)
def test_a_specification(text, spec):
    assert Spec.parse(text) == spec


@pytest.mark.parametrize("text", ["1m", "m{", "m{a}", "m{a=}", "m{=b}", "m{a=b c=d}", "m}a=b{", "a b", "m{a!=b}"])
def test_what_is_no_specification(text):
    with pytest.raises(ValueError, match="is no metric specification"):
        Spec.parse(text)


def test_label_blocks_are_remembered_but_not_without_end():
    labels = Labels()
    block = b'{a="b"}'
    assert labels.of(block) is labels.of(bytes(block))
    for i in range(2 * MEMO_LIMIT):
        assert labels.of(b'{a="%d"}' % i) == {"a": str(i)}
