"""Prompts counted without a tokenizer."""

from __future__ import annotations

from array import array
from typing import Any

import msgspec
import pytest

from epp.api import PROMPT, Prompt
from epp.testing import builders, contracts
from scorers.producers.token import TokenEstimate


def test_contract() -> None:
    contracts.check_producer(TokenEstimate())


@pytest.mark.parametrize(("text", "tokens"), [(b"", 0), (b"a", 1), (b"abcd", 1), (b"abcde", 2)])
def test_four_bytes_of_text_count_as_a_token(text: bytes, tokens: int) -> None:
    produced = TokenEstimate().produce(builders.request(text=text), builders.endpoints(1))
    assert produced == {PROMPT: Prompt(text, tokens, 4)}


def test_the_text_is_not_copied() -> None:
    request = builders.request(text=b"x" * 1000)
    assert TokenEstimate().produce(request, builders.endpoints(1))[PROMPT].data is request.text


def test_real_token_ids_are_counted_exactly() -> None:
    ids = array("I", [1, 2, 70_000]).tobytes()
    produced = TokenEstimate().produce(builders.request(token_ids=ids), builders.endpoints(1))
    assert produced == {PROMPT: Prompt(ids, 3, 4)}


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"vllm": {"url": "http://localhost:8000"}}, "not available yet"),
        ({"udsTokenizerConfig": {}}, "not supported"),
        ({"backend": "x"}, "unknown field `backend`"),
    ],
)
def test_what_is_not_there_is_refused_at_start(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert(parameters, TokenEstimate)


def test_parameters_of_the_estimate_are_accepted() -> None:
    msgspec.convert({"modelName": "m", "estimate": {"image": {"mode": "dynamic"}}}, TokenEstimate)
