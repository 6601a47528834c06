"""Bodies that nobody understands are routed too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from epp.api import Parsed, Parser


class PassthroughParser(Parser, type="passthrough-parser"):
    """The fallback for every path: no model, no prompt, no usage; the bytes go through."""

    lenient: ClassVar[bool] = True

    def parse(self, path: str, headers: Mapping[str, str], body: bytes) -> Parsed:
        """Nothing is read."""
        return Parsed()
