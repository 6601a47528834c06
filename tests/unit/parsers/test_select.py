"""Which parser gets a request."""

from __future__ import annotations

import pytest

from epp.api import ParsedRequest, Parser
from epp.errors import BadRequest
from epp.parsers.openai import OpenAIParser
from epp.parsers.passthrough import PassthroughParser
from epp.parsers.select import ParserSelector


class Short(Parser, type="short"):
    paths = ("completions", "generate")


class Long(Parser, type="long"):
    paths = ("v2/completions",)


def test_the_longest_suffix_wins_whatever_the_order() -> None:
    for parsers in ([("a", Short()), ("b", Long())], [("b", Long()), ("a", Short())]):
        table = ParserSelector(parsers)
        assert table.select("/v2/completions")[0] == "b"
        assert table.select("/v1/completions?x=/v2/completions")[0] == "a"
        assert table.select("/xcompletions")[0] == "a", "a plain suffix, as llm-d has it"


def test_the_first_of_two_parsers_with_one_suffix_keeps_it() -> None:
    assert ParserSelector([("one", Short()), ("two", Short())]).select("/generate")[0] == "one"


def test_a_parser_without_paths_takes_the_rest_and_hides_those_behind_it() -> None:
    table = ParserSelector([("openai", OpenAIParser()), ("any", PassthroughParser()), ("late", Short())])
    assert table.select("/v1/chat/completions")[0] == "openai"
    assert table.select("/v1/models")[0] == "any"
    assert table.select("/generate")[0] == "any"


def test_without_a_fallback_an_unknown_path_is_refused() -> None:
    with pytest.raises(BadRequest, match="no parser registered matching path suffix for: /v1/models"):
        ParserSelector([("openai", OpenAIParser())]).select("/v1/models?limit=5")


def test_the_fallback_reads_nothing() -> None:
    assert PassthroughParser().parse("/x", {}, b"\x00\xff") == ParsedRequest()
    assert PassthroughParser().create_usage_reader("/x", True) is None
