"""Which parser gets a request."""

from __future__ import annotations

from random import Random

import pytest

from epp.api import Parser
from epp.errors import BadRequest
from epp.parsers.openai import OpenAIParser
from epp.parsers.passthrough import PassthroughParser
from epp.requestcontrol.request_parser import RequestParser


class ShortSuffixParser(Parser, type="short"):
    paths = ("completions", "generate")


class LongSuffixParser(Parser, type="long"):
    paths = ("v2/completions",)


def build_request_parser(*parsers: Parser) -> RequestParser:
    return RequestParser([(type(parser).type, parser) for parser in parsers], Random(1))


def test_the_longest_suffix_wins_whatever_the_order() -> None:
    short, long = ShortSuffixParser(), LongSuffixParser()
    for parsers in ([short, long], [long, short]):
        parser = build_request_parser(*parsers)
        assert parser.find_parser("/v2/completions") is long
        assert parser.find_parser("/v1/completions?x=/v2/completions") is short
        assert parser.find_parser("/xcompletions") is short, "a plain suffix, as in llm-d"


def test_the_first_of_two_parsers_with_one_suffix_keeps_it() -> None:
    first, second = ShortSuffixParser(), ShortSuffixParser()
    assert build_request_parser(first, second).find_parser("/generate") is first


def test_a_parser_without_paths_takes_the_rest_and_hides_those_after_it() -> None:
    openai, fallback = OpenAIParser(), PassthroughParser()
    parser = build_request_parser(openai, fallback, ShortSuffixParser())
    assert parser.find_parser("/v1/chat/completions") is openai
    assert parser.find_parser("/v1/models") is fallback
    assert parser.find_parser("/generate") is fallback


def test_an_unknown_path_without_a_fallback_is_rejected() -> None:
    with pytest.raises(BadRequest, match="no parser registered matching path suffix for: /v1/models"):
        build_request_parser(OpenAIParser()).find_parser("/v1/models?limit=5")
