from collections.abc import Mapping

from epp.api import BadRequest, ParsedRequest, Parser, TokenUsage, UsageReader


class WordCounter:
    """Usage of a plain-text response: one token a word."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        self._body += data

    def usage(self) -> TokenUsage:
        return TokenUsage(output_tokens=len(self._body.split()))


class PlainTextParser(Parser, type="plain-text-parser"):
    """Read `<model>: <prompt>` in plain text."""

    paths = ("/plain",)

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        model, colon, prompt = body.partition(b": ")
        if not colon:
            raise BadRequest("expected `<model>: <prompt>`")
        return ParsedRequest(model=model.decode("utf-8", "replace"), text=prompt)

    def create_usage_reader(self, path: str, streaming: bool) -> UsageReader | None:
        return WordCounter()
