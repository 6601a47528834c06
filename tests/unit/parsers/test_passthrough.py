"""The passthrough parser."""

from __future__ import annotations

from epp.api import ParsedRequest
from epp.parsers.passthrough import PassthroughParser


def test_the_passthrough_parser_reads_nothing() -> None:
    assert PassthroughParser().parse("/x", {}, b"\x00\xff") == ParsedRequest()
    assert PassthroughParser().create_usage_reader("/x", True) is None
