"""A rewritten body differs from the original in the model's value and in nothing else."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from epp.parsers.rewrite import find_model_span, replace_model

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("model"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("model"), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.text() | st.just("model"), values), max_size=6), st.text(), st.booleans(), st.booleans())
def test_only_the_value_of_the_last_model_changes(
    members: list[tuple[str, Any]], model: str, ascii_only: bool, spread: bool
) -> None:
    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, indent=2 if spread else None)

    body = ("{" + ",".join(f"{dump(key)}:{dump(value)}" for key, value in members) + "}").encode("utf-8", "replace")
    original: dict[str, Any] = json.loads(body)
    rewritten = replace_model(body, model)
    assert json.loads(rewritten) == {**original, "model": model}
    span = find_model_span(body)
    assert (span is None) == ("model" not in original)
    if span is not None:
        start, end = span
        assert json.loads(body[start:end]) == original["model"]
        assert rewritten.startswith(body[:start])
        assert rewritten.endswith(body[end:])
        assert list(json.loads(rewritten)) == list(original)
