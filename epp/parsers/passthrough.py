"""Parser for requests of unknown APIs: they are routed without a model and a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from epp.api import ParsedRequest, Parser


class PassthroughParser(Parser, type="passthrough-parser"):
    """The fallback for every path: no model, no prompt, no usage; the bytes go through."""

    ignore_unknown_parameters: ClassVar[bool] = True

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> ParsedRequest:
        """An empty request; the body is not read."""
        return ParsedRequest()
