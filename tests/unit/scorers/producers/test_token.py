"""The token producer: token ids, or the estimate from bytes."""

from __future__ import annotations

from array import array
from typing import Any

import msgspec
import pytest

from epp.api import PROMPT, TokenizedPrompt
from epp.testing import builders, contracts
from scorers.producers.token import TokenProducer


def test_contract() -> None:
    contracts.check_producer(TokenProducer())


@pytest.mark.parametrize(("text", "tokens"), [(b"", 0), (b"a", 1), (b"abcd", 1), (b"abcde", 2)])
def test_four_bytes_of_text_count_as_a_token(text: bytes, tokens: int) -> None:
    produced = TokenProducer().produce(builders.build_request(text=text), builders.build_endpoints(1))
    assert produced == {PROMPT: TokenizedPrompt(text, tokens, 4)}


def test_the_prompt_bytes_are_not_copied() -> None:
    request = builders.build_request(text=b"x" * 1000)
    assert TokenProducer().produce(request, builders.build_endpoints(1))[PROMPT].data is request.text


def test_token_ids_are_counted_exactly() -> None:
    ids = array("I", [1, 2, 70_000]).tobytes()
    produced = TokenProducer().produce(builders.build_request(token_ids=ids), builders.build_endpoints(1))
    assert produced == {PROMPT: TokenizedPrompt(ids, 3, 4)}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"vllm": {"url": "http://localhost:8000"}}, "not available yet"),
        ({"udsTokenizerConfig": {}}, "not supported"),
        ({"backend": "x"}, "unknown field `backend`"),
    ],
)
def test_unsupported_parameters_are_rejected(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(parameters, TokenProducer)


def test_parameters_that_are_not_read_yet_are_accepted() -> None:
    msgspec.convert({"modelName": "m", "estimate": {"image": {"mode": "dynamic"}}}, TokenProducer)
