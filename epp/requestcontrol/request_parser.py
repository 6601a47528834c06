"""From headers and body to a `Request`: which parser, which model, what the client may say about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from uuid import UUID

import msgspec

from epp.api import ParsedRequest, Parser, Request, UsageReader
from epp.errors import BadRequest
from epp.headers import FAIRNESS_ID, MODEL_NAME_REWRITE, REQUEST_ID
from epp.parsers import rewrite
from epp.parsers.select import ParserSelector
from epp.requestcontrol.interfaces import RequestHeaders
from epp.scheduling.result import ProfileRunResult

MAX_CONTROL_VALUE_LENGTH = 256
DEFAULT_FAIRNESS_ID = "default-flow"
EMPTY_PARSED = ParsedRequest()


class RequestContext(msgspec.Struct, gc=False):
    """A request on its way to a route.

    `body` is the rewritten body or None; `minted_id`: the request came without an id; `verdicts`: profile by profile.
    """

    request: Request
    parser: Parser | None = None
    body: bytes | None = None
    generated_id: bool = False
    results: dict[str, ProfileRunResult] = {}

    def create_usage_reader(self) -> UsageReader | None:
        """Reads token usage from the answer."""
        return (
            None if self.parser is None else self.parser.create_usage_reader(self.request.path, self.request.streaming)
        )


class RequestParser:
    """Reads requests with the configured parsers."""

    def __init__(self, parsers: Sequence[tuple[str, Parser]], rng: Random) -> None:
        self._parsers = ParserSelector(parsers)
        self._rng = rng

    def parse(self, head: RequestHeaders, body: bytes) -> RequestContext:
        """The request, or `BadRequest`. Without a body, or before it is seen, nothing is parsed."""
        headers = head.headers
        path = resolve_path(headers)
        fairness_id = read_control_header(headers, FAIRNESS_ID) or DEFAULT_FAIRNESS_ID
        request_id = headers.get(REQUEST_ID)
        parser, parsed = None, EMPTY_PARSED
        if not head.end_of_stream and not head.routed_before_body:
            _, parser = self._parsers.select(path)
            parsed = parser.parse(path, headers, body)
        model = target = parsed.model or ""
        # The fallback parser, without paths, knows no model: nothing to rewrite, nothing to miss.
        if parser is not None and parser.paths:
            target = read_control_header(headers, MODEL_NAME_REWRITE) or model
            if not target:
                raise BadRequest("model not found in request body")
        request = Request(
            id=request_id or str(UUID(int=self._rng.getrandbits(128), version=4)),
            path=path,
            headers=headers,
            body=body,
            model=model,
            target_model=target,
            text=parsed.text,
            token_ids=parsed.token_ids,
            cache_salt=parsed.cache_salt,
            max_output_tokens=parsed.max_output_tokens,
            streaming=parsed.streaming,
            fairness_id=fairness_id,
        )
        return RequestContext(
            request, parser, None if target == model else rewrite.replace_model(body, target), not request_id
        )


def resolve_path(headers: Mapping[str, str]) -> str:
    """The path that decides the API, in llm-d's order."""
    return (
        headers.get(":path") or headers.get("x-original-path") or headers.get("x-forwarded-path") or "/v1/completions"
    )


def read_control_header(headers: Mapping[str, str], names: Sequence[str]) -> str:
    """A control header under its new or old name; a value no metric label or model name can be is refused."""
    for name in names:
        value = headers.get(name)
        if value:
            if len(value) > MAX_CONTROL_VALUE_LENGTH or not value.isprintable():
                raise BadRequest(f"header {name} must be printable and at most {MAX_CONTROL_VALUE_LENGTH} characters")
            return value
    return ""
